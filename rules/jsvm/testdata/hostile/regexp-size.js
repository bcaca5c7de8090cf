// A regular expression that wants to be large.
// expect: anything
on('attack', (msg) => {
  new RegExp('(?:a{1000}){1000}(?!x)').test('a'.repeat(1e5))
})
