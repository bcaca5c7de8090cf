// A string of a thousand billion characters.
// expect: over the limit of 8388608
on('attack', (msg) => {
  'x'.repeat(2 ** 40)
})
