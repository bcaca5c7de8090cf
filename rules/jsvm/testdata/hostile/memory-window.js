// A million keys of a window.
// expect: an event may put at most 10000 values into windows
const w = window({ over: '10h' })
on('attack', (msg) => {
  for (let i = 0; i < 1e6; i++) w.add('key ' + i, i)
})
