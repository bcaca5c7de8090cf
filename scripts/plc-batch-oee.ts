// Batches and OEE of production lines. The PLC of a line publishes each part on
// line/NAME/part as {good: true} and whether it runs on line/NAME/running. When a batch is
// closed (line/NAME/batch {close: true}) or the shift ends (06:00, 14:00, 22:00), the counters
// become line/NAME/oee and begin anew.
const IDEAL_SECONDS = 2 // for one part

interface Counters { from: number; ran: number; runningSince: number | null; good: number; bad: number }

const fresh = (now: number, running: boolean): Counters => ({ from: now, ran: 0, runningSince: running ? now : null, good: 0, bad: 0 })

const load = (line: string): Counters => state.get(line) ?? fresh(Date.now(), false)

on('line/+/part', { name: 'count parts', qos: 1 }, (msg) => {
  const line = msg.parts[1], c = load(line)
  if (msg.payload.good) c.good++
  else c.bad++
  state.set(line, c)
})

on('line/+/running', { name: 'count time', qos: 1 }, (msg) => {
  const line = msg.parts[1], c = load(line), runs: boolean = msg.payload
  if (runs === (c.runningSince !== null)) return
  if (c.runningSince !== null) c.ran += Date.now() - c.runningSince
  c.runningSince = runs ? Date.now() : null
  state.set(line, c)
})

on('line/+/batch', { name: 'close batch', qos: 1 }, (msg) => {
  if (msg.payload.close) close(msg.parts[1], 'batch')
})

at(['06:00', '14:00', '22:00'], { name: 'end of shift' }, () => {
  for (const line of state.keys()) close(line, 'shift')
})

function close(line: string, why: string) {
  const now = Date.now(), c = load(line)
  const running = c.runningSince !== null
  const ran = c.ran + (running ? now - c.runningSince! : 0)
  const parts = c.good + c.bad
  const share = (a: number, b: number) => b > 0 ? Math.round(a / b * 1000) / 1000 : 0
  const availability = share(ran, now - c.from)
  const performance = share(parts * IDEAL_SECONDS * 1000, ran)
  const quality = share(c.good, parts)
  publish(`line/${line}/oee`, {
    why, parts, good: c.good, availability, performance, quality,
    oee: Math.round(availability * performance * quality * 1000) / 1000,
  }, { qos: 1, retain: true })
  state.set(line, fresh(now, running))
}
