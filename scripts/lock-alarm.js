// Alarm: a door opens while its lock says that it is locked.
on('home/+/lock', { qos: 1 }, (msg) => {
  state.set('locked/' + msg.parts[1], msg.payload.locked === true)
})

on('home/+/door', { qos: 1 }, (msg) => {
  const room = msg.parts[1]
  if (msg.payload.open && state.get('locked/' + room)) {
    log.warn(`door "${room}" opened while locked`)
    publish(`home/${room}/alarm`, { alarm: 'forced', door: room }, { qos: 1 })
  }
})
