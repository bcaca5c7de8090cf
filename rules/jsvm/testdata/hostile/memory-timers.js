// A hundred thousand timers.
// expect: more than 1000 pending timers
on('attack', (msg) => {
  for (let i = 0; i < 1e5; i++) setInterval(() => {}, 10)
})
