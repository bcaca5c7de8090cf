// A map that grows for ever.
// expect: fails
on('attack', (msg) => {
  const m = new Map()
  for (let i = 0; ; i++) m.set(i, { i })
})
