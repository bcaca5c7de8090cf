// Whatever Go values might show of themselves.
// expect: harmless
on('attack', (msg) => {
  for (const o of [msg, publish, state, log, http, on, msg.payload])
    for (let p = o; p && p !== Object.prototype && p !== Function.prototype; p = Object.getPrototypeOf(p))
      for (const key of Object.getOwnPropertyNames(p))
        if (/^[A-Z]/.test(key)) throw new Error(key + ' is there')
})
