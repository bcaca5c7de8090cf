// An object that never stops to list its keys.
// expect: did not return within
on('attack', (msg) => {
  publish('a', new Proxy({}, { ownKeys() { for (;;); } }))
})
