// A small object whose JSON is very large.
// expect: fails
on('attack', (msg) => {
  let o = { x: 1 }
  for (let i = 0; i < 40; i++) o = { a: o, b: o }
  publish('a', o)
})
