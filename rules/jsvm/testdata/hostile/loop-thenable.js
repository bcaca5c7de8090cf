// A thenable that does not return.
// expect: did not return within
on('attack', (msg) => {
  (async () => { await { then() { for (;;); } } })()
})
