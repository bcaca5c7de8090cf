// An endless loop that catches what would end it.
// expect: did not return within
on('attack', (msg) => {
  for (;;) { try { for (;;); } catch (e) {} }
})
