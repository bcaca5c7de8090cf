// A RegExp.prototype.exec that does not return.
// expect: did not return within
on('attack', (msg) => {
  RegExp.prototype.exec = () => { for (;;); }
  'a'.replace(/a/, 'b')
})
