// A back reference that backtracks.
// expect: did not return within
on('attack', (msg) => {
  ('ab'.repeat(30) + '!').match(/^((a|ab|b)+)+\1$(?!x)/)
  publish('wrong', 1)
})
