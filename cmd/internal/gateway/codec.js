;(() => {
  const bytes = out => {
    if (typeof out === 'string' || ArrayBuffer.isView(out)) return out
    if (!Array.isArray(out) || !out.every(b => Number.isInteger(b) && b >= 0 && b <= 255)) {
      throw new TypeError('encode must return text, a Uint8Array or an array of bytes')
    }
    return new Uint8Array(out)
  }
  if (typeof decode !== 'function') throw new TypeError('a codec must have a function decode(bytes)')
  on('decode', frame => {
    const all = decode(frame.bytes)
    if (all === null || all === undefined) return
    if (typeof all !== 'object' || Array.isArray(all)) throw new TypeError('decode must return an object of points and values, or null')
    publish('decoded', Object.entries(all).filter(([, v]) => v !== undefined).map(([name, v]) => typeof v === 'bigint' ? [name, String(v), true] : [name, v]))
  })
  if (typeof encode === 'function') on('encode', request => publish('encoded', bytes(encode(...request.payload))))
})()
