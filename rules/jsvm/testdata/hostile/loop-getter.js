// A getter that does not return.
// expect: did not return within
on('attack', (msg) => {
  publish('a', { get x() { for (;;); } })
})
