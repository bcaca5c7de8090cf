// A state.update that does not return.
// expect: did not return within
on('attack', (msg) => {
  state.update('a', () => { for (;;); })
})
