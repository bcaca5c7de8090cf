'use strict'
// The page asks the API every two seconds and shows what it says. Text goes into
// the page as text only, never as HTML.

const cell = (text, name) => {
  const td = document.createElement('td')
  td.textContent = text ?? ''
  if (name) td.className = name
  return td
}

const table = (heads, rows) => {
  if (rows.length === 0) return Object.assign(document.createElement('p'), { textContent: 'none', className: 'dim' })
  const t = document.createElement('table')
  const head = t.createTHead().insertRow()
  for (const h of heads) head.append(Object.assign(document.createElement('th'), { textContent: h }))
  const body = t.createTBody()
  for (const row of rows) body.insertRow().append(...row)
  return t
}

const trouble = text => Object.assign(document.createElement('pre'), { textContent: text, className: 'bad' })
const clock = at => (at && !at.startsWith('0001') ? new Date(at).toLocaleTimeString() : '')
const show = (id, ...nodes) => document.getElementById(id).replaceChildren(...nodes)

const views = {
  devices: list => [
    table(['device', 'driver', 'point', 'value', 'quality', 'at'], list.flatMap(d => [
      [cell(d.name), cell(d.driver, 'dim'), cell(''), cell(d.reason, 'bad'), cell(d.online ? 'online' : 'offline', d.online ? 'good' : 'bad'), cell(clock(d.since))],
      ...(d.points ?? []).map(p => [cell(''), cell(''), cell(p.name + (p.writable ? ' ✎' : '')),
        cell([JSON.stringify(p.value), p.unit, p.error && '— ' + p.error].filter(Boolean).join(' '), p.quality === 'good' ? 'text' : 'text dim'),
        cell(p.quality, p.quality === 'good' ? 'good' : 'bad'), cell(clock(p.at))])
    ])),
    table(['device', 'took ms', 'count', 'p50', 'p95', 'p99', 'max'], list.flatMap(d =>
      [['reads', d.read_latency], ['exchanges', d.exchange_latency]].filter(([, l]) => l).map(([what, l]) =>
        [cell(d.name), cell(what), ...[l.count, l.p50, l.p95, l.p99, l.max].map(n => cell(n, 'number'))]))),
    table(['device', 'counters'], list.map(d => [cell(d.name), cell(
      Object.entries({ ...d.counters, ...d.driver_counters, ...d.gauges }).filter(([, n]) => n).map(([name, n]) =>
        name.replaceAll('_', ' ') + ' ' + (Number.isInteger(n) ? n : n.toFixed(1))).join(', '), 'text')])),
    ...list.filter(d => d.error).map(d => trouble(d.error))
  ],
  rules: list => [
    table(['file', 'rule', 'hears', 'heard', 'fired', 'not evaluated', 'errors', 'last'], list.flatMap(f =>
      (f.rules ?? []).map(r => [cell(f.file, f.ok ? 'dim' : 'bad'), cell(r.name), cell([...(r.filters ?? []), ...(r.schedules ?? [])].join(', '), 'text'),
        cell(r.heard, 'number'), cell(r.fired, 'number'), cell(r.not_evaluated, 'number'), cell(r.errors, r.errors ? 'number bad' : 'number'),
        cell(r.trace?.[0] ? clock(r.trace[0].at) + ' ' + r.trace[0].outcome : '', 'dim')]))),
    ...list.filter(f => f.error).map(f => trouble(f.error))
  ],
  topics: list => [table(['topic', 'retained payload', 'by', 'at'], list.map(t =>
    [cell(t.topic, 'text'), cell(t.payload, 'text'), cell(t.origin, 'dim'), cell(clock(t.at))]))],
  clients: list => [table(['client', 'version', 'from', 'subscriptions', 'queued', 'since'], list.map(c =>
    [cell(c.id, c.connected ? 'good' : 'dim'), cell(c.version), cell(c.remote), cell(c.subscriptions, 'number'),
      cell(c.queued, 'number'), cell(clock(c.since))]))],
  plugins: list => [table(['plugin', 'state', 'drivers', 'restarts', 'error'], list.map(p =>
    [cell(p.name), cell(p.state, p.state === 'running' ? 'good' : 'bad'), cell((p.drivers ?? []).join(' ')), cell(p.restarts, 'number'), cell(p.error, 'bad')]))]
}

const refresh = async () => {
  const state = document.getElementById('state')
  try {
    await Promise.all(Object.entries(views).map(async ([name, view]) => {
      const answer = await fetch('api/v1/' + name)
      if (!answer.ok) throw new Error(name + ': ' + answer.status)
      show(name, ...view(await answer.json()))
    }))
    state.textContent = 'running'
    state.className = 'good'
  } catch (err) {
    state.textContent = 'no answer: ' + err.message
    state.className = 'bad'
  }
  setTimeout(refresh, 2000)
}
refresh()
