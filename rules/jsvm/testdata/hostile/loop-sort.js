// A sort that begins again for ever.
// expect: did not return within
on('attack', (msg) => {
  const a = Array.from({ length: 1e5 }, (_, i) => i * 7919 % 1e5)
  for (;;) a.sort((x, y) => x - y)
})
