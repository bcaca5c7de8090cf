// A string that doubles for ever.
// expect: fails
on('attack', (msg) => {
  let s = 'x'
  for (;;) s += s
})
