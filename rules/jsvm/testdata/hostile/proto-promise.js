// A then that does not return.
// expect: did not return within
on('attack', (msg) => {
  Promise.prototype.then = function () { for (;;); }
  Promise.resolve().finally(() => {})
})
