// An endless chain of promises.
// expect: did not return within
on('attack', (msg) => {
  (function f() { return Promise.resolve().then(f) })()
})
