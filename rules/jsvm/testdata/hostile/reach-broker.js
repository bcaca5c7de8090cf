// A topic of the broker.
// expect: belongs to the broker
on('attack', (msg) => {
  publish('$SYS/broker/version', 'mine', { retain: true })
})
