// A topic whose text does not end.
// expect: did not return within
on('attack', (msg) => {
  publish({ toString() { for (;;); } }, 1)
})
