// Goes through what a client of MQTT.js does, and says what it saw, a line each.
// node mqttjs.js FOLDER-OF-MODULES URL VERSION [FILE-OF-THE-AUTHORITY]
'use strict'
const fs = require('fs')
const path = require('path')
const [modules, url, version, ca] = process.argv.slice(2)
const mqtt = require(path.join(modules, 'mqtt'))
const v5 = version === '5'

function connect(id, more) {
  const options = {
    clientId: id, protocolVersion: Number(version), reconnectPeriod: 0, resubscribe: false,
    ca: ca && fs.readFileSync(ca), rejectUnauthorized: true, ...more
  }
  return new Promise((done, failed) => {
    const client = mqtt.connect(url, options)
    client.heard = []
    client.on('message', (topic, payload, packet) => {
      client.heard.push({ topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain, properties: packet.properties })
      if (client.waiting) client.waiting()
    })
    client.on('connect', (ack) => { client.present = ack.sessionPresent; done(client) })
    client.on('error', failed)
  })
}

async function next(client) {
  while (client.heard.length === 0) await new Promise((woken) => { client.waiting = woken })
  return client.heard.shift()
}

const tell = (m) => console.log(`${m.topic} ${m.payload} ${m.qos} ${m.retain}`)

async function main() {
  const lasting = v5 ? { clean: false, properties: { sessionExpiryInterval: 100 } } : { clean: false }
  const publisher = await connect('js-pub')
  await publisher.publishAsync('js/kept', 'kept', { qos: 1, retain: true })
  let monitor = await connect('js-sub', lasting)
  console.log('present', monitor.present)
  await monitor.subscribeAsync('js/#', { qos: 2 })
  tell(await next(monitor))
  for (const qos of [0, 1, 2]) {
    await publisher.publishAsync('js/x', 'q' + qos, { qos })
    tell(await next(monitor))
  }
  if (v5) {
    await publisher.publishAsync('js/p', 'p', {
      qos: 1,
      properties: {
        payloadFormatIndicator: true, contentType: 'text/plain', responseTopic: 'js/answer',
        correlationData: Buffer.from('c'), userProperties: { k: ['1', '2'] }, messageExpiryInterval: 1000
      }
    })
    const p = (await next(monitor)).properties
    console.log(p.payloadFormatIndicator, p.contentType, p.responseTopic, p.correlationData.toString(), p.userProperties.k.join(), p.messageExpiryInterval > 990)
  }
  await monitor.endAsync()
  await publisher.publishAsync('js/x', 'while away', { qos: 1 })
  monitor = await connect('js-sub', lasting)
  console.log('present', monitor.present)
  tell(await next(monitor))
  const mortal = await connect('js-will', { will: { topic: 'js/will', payload: 'gone', qos: 1, retain: false } })
  mortal.stream.destroy()
  tell(await next(monitor))
  await monitor.unsubscribeAsync('js/#')
  await publisher.publishAsync('js/kept', '', { qos: 1, retain: true })
  await Promise.all([monitor.endAsync(), publisher.endAsync()])
  console.log('heard besides', monitor.heard.length)
  process.exit(0)
}

main().catch((err) => { console.error(err); process.exit(1) })
