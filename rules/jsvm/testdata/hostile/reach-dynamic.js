// A module that is named when it is too late.
// expect: there is no
on('attack', (msg) => {
  const name = './_' + 'loop'
  return require(name + 's')
})
