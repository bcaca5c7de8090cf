// An array that grows for ever.
// expect: fails
on('attack', (msg) => {
  const a = []
  for (;;) a.push(new Array(1000).fill(1))
})
