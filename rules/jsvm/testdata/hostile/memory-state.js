// More state than a script may have.
// expect: state is over its limit
on('attack', (msg) => {
  for (let i = 0; ; i++) state.set('k' + i, 'x'.repeat(100000))
})
