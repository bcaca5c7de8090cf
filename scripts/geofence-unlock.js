// The car comes home: the gate opens. It has come home when it is within 80 m, after it was
// farther away than 300 m; a position that is 20 s old, or known to 50 m only, does not count.
// Where home is stands retained on car/home: {"lat": 52.52, "lon": 13.405}.
const NEAR = 80, FAR = 300, TOO_OLD = 20e3, TOO_VAGUE = 50

on('car/home', { name: 'home', retained: true }, (msg) => state.set('home', msg.payload))

on('car/+/position', { name: 'geofence', qos: 1 }, (msg) => {
  const home = state.get('home')
  const at = msg.payload
  if (!home || at.accuracy > TOO_VAGUE || msg.at - at.time * 1000 > TOO_OLD) return
  const car = msg.parts[1]
  const away = metres(home, at)
  if (away > FAR) state.set('away/' + car, true)
  if (away > NEAR || !state.get('away/' + car)) return
  state.delete('away/' + car)
  publish('car/gate/set', { open: true, for: car }, { qos: 1, expiry: '30s' })
})

function metres(a, b) {
  const rad = Math.PI / 180
  const x = (b.lon - a.lon) * Math.cos((a.lat + b.lat) / 2 * rad)
  return Math.hypot(x, b.lat - a.lat) * rad * 6371e3
}
