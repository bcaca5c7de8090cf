// The functions of the gateway, taken away.
// expect: harmless
on('attack', (msg) => {
  publish = on = state = log = undefined
  globalThis.filter = 1
})
