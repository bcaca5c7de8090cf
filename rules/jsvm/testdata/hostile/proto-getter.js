// A getter that acts while it is published.
// expect: harmless
on('attack', (msg) => {
  publish('a', { get x() { publish('b', 1); state.set('n', 1); return 1 } })
})
