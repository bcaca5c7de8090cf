// The light goes off again, ten seconds after the door was closed.
const offAfter = 10000
const timers = {}

on('home/+/door', { qos: 1 }, (msg) => {
  const room = msg.parts[1]
  clearTimeout(timers[room])
  if (msg.payload.open) return
  timers[room] = setTimeout(() => {
    delete timers[room]
    publish(`home/${room}/light/set`, { on: false }, { qos: 1 })
  }, offAfter)
})
