// Arrays without their methods.
// expect: harmless
on('attack', (msg) => {
  Array.prototype.push = Array.prototype.map = Array.prototype[Symbol.iterator] = null
  publish('a', [1])
  msg.parts.length
})
