// A number of four billion digits.
// expect: fails
on('attack', (msg) => {
  publish('a', String(2n ** (2n ** 35n)))
})
