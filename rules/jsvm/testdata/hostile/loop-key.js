// A debounced function whose key does not end.
// expect: did not return within
const f = debounce('1s', () => {}, { key() { for (;;); } })
on('attack', (msg) => {
  f()
})
