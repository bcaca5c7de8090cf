// Recursion through a builtin.
// expect: calls within each other
on('attack', (msg) => {
  (function f() { [1].forEach(f) })()
})
