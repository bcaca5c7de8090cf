// An array nested a hundred thousand deep, as text.
// expect: fails
on('attack', (msg) => {
  let a = []
  for (let i = 0; i < 1e5; i++) a = [a]
  String(a)
})
