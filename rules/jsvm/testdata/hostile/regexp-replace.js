// A regular expression that backtracks in replace.
// expect: did not return within
on('attack', (msg) => {
  ('a'.repeat(40) + '!').replace(/(?=b|^)(a+)+$(?!x)/g, 'x')
  publish('wrong', 1)
})
