// Headers that do not end.
// expect: did not return within
on('attack', (msg) => {
  http('http://example.org/', { headers: { get a() { for (;;); } } })
})
