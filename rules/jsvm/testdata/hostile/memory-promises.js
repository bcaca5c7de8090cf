// Promises that are kept and never settled.
// expect: fails
on('attack', (msg) => {
  const kept = []
  for (;;) kept.push(new Promise(() => {}).then(() => {}))
})
