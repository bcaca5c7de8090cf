// A value that is something else each time.
// expect: harmless
on('attack', (msg) => {
  let n = 0
  publish('a', { [Symbol.toPrimitive]: () => n++, toString: () => 'a/#', toJSON: () => n++ })
})
