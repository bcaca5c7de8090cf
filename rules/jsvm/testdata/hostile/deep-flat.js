// An array that holds itself, flattened.
// expect: fails
on('attack', (msg) => {
  const a = []
  a.push(a)
  a.flat(Infinity)
})
