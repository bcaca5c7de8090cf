// An error whose text does not end.
// expect: an error that cannot be shown
on('attack', (msg) => {
  throw { toString() { for (;;); } }
})
