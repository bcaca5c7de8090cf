// Builtins that are taken away.
// expect: harmless
on('attack', (msg) => {
  JSON.parse = JSON.stringify = Date = Error = Uint8Array = Promise = null
  publish('a', [msg.text, msg.at, msg.bytes.length])
  state.set('x', { y: 1 })
  state.get('x')
})
