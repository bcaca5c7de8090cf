// A key of another script that is not shared.
// expect: does not share the key
const other = shared('good.js')
on('attack', (msg) => {
  publish('a', other.get('secret'))
})
