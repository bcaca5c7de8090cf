// An array that says that it is very long.
// expect: over the limit of 4194304
on('attack', (msg) => {
  const a = []
  a.length = 4e9
  a.fill(1)
})
