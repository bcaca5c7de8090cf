// A million keys of a debounced function.
// expect: debounce has more than 1000 keys
const f = debounce('1h', () => {}, { key: (i) => i })
on('attack', (msg) => {
  for (let i = 0; i < 1e6; i++) f(i)
})
