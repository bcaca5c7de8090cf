// A getter that throws while it is published.
// expect: got you
on('attack', (msg) => {
  publish('a', [1, { get x() { throw new Error('got you') } }])
})
