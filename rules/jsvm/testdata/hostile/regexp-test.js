// A regular expression that backtracks, and then says no.
// expect: did not return within
on('attack', (msg) => {
  if (!/^(a+)+$(?!x)/.test('a'.repeat(40) + 'b')) publish('wrong', 1)
})
