// The light goes off again, ten seconds after the door was closed, even if the gateway
// was restarted meanwhile.
on('home/+/door', { qos: 1 }, (msg) => {
  const room = msg.parts[1]
  if (msg.payload.open) cancel('light off', room)
  else after('10s', 'light off', { room }, { id: room })
})

timer('light off', ({ room }) => publish(`home/${room}/light/set`, { on: false }, { qos: 1 }))
