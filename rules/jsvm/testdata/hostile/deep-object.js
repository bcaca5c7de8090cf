// An object nested a million deep, as JSON.
// expect: fails
on('attack', (msg) => {
  let o = {}
  for (let i = 0; i < 1e6; i++) o = { o }
  publish('a', o)
})
