// An endless loop.
// expect: did not return within
on('attack', (msg) => {
  for (;;);
})
