// Two hundred thousand rules.
// expect: refused: more than 500 rules
for (let i = 0; i < 2e5; i++) on('a/' + i, () => {})
