// A hundred thousand timers that would survive.
// expect: more than 2000 timers in an event
timer('t', () => {})
on('attack', (msg) => {
  for (let i = 0; i < 1e5; i++) after('1h', 't', i, { id: i })
})
