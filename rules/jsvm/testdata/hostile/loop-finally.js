// An endless loop whose finally goes on.
// expect: did not return within
on('attack', (msg) => {
  for (;;) { try { throw 1 } finally { continue } }
})
