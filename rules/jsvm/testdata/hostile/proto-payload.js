// A payload that would change the prototype of all objects.
// expect: harmless
on('attack', (msg) => {
  Object.assign({}, msg.payload, JSON.parse('{"__proto__":{"polluted":1}}'))
  if (({}).polluted) throw new Error('polluted')
})
