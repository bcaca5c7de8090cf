// Options for everybody, by the prototype of all objects.
// expect: harmless
on('attack', (msg) => {
  Object.prototype.retain = Object.prototype.qos = 9
  Object.prototype.toJSON = undefined
  publish('a', { b: 1 }, {})
})
