// A list of topic filters without end, at the top level.
// expect: refused: more than 1000 topic filters
const a = []
a[Symbol.iterator] = function* () { for (;;) yield 'a' }
on(a, () => {})
