// A replacement that multiplies.
// expect: over the limit of 8388608
on('attack', (msg) => {
  'x'.repeat(1e6).replace(/x/g, 'y'.repeat(1e6))
})
