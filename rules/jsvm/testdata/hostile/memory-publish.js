// A storm of messages.
// expect: an event may publish at most 1000 messages
on('attack', (msg) => {
  for (let i = 0; i < 1e6; i++) publish('a/' + i, i)
})
