// A toJSON that does not return.
// expect: did not return within
on('attack', (msg) => {
  publish('a', { toJSON() { for (;;); } })
})
