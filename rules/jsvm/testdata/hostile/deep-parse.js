// JSON nested a million deep.
// expect: JSON nested deeper than 300
on('attack', (msg) => {
  JSON.parse('['.repeat(1e6))
})
