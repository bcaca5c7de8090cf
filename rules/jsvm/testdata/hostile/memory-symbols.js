// Symbols that are registered for ever.
// expect: fails
on('attack', (msg) => {
  for (let i = 0; ; i++) Symbol.for('symbol of a long name ' + i)
})
