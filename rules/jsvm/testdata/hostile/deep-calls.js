// Recursion without end.
// expect: calls within each other
on('attack', (msg) => {
  (function f() { f() })()
})
