// Buffers, each as large as is allowed.
// expect: fails
on('attack', (msg) => {
  const a = []
  for (;;) a.push(new Uint8Array(4e6).fill(1))
})
