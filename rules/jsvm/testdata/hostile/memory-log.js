// A storm of long lines, which are dropped.
// expect: harmless
on('attack', (msg) => {
  for (let i = 0; i < 1000; i++) log('x'.repeat(5000))
})
