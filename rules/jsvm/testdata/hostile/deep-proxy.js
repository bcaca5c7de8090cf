// A proxy of a proxy of a proxy.
// expect: fails
on('attack', (msg) => {
  let p = {}
  for (let i = 0; i < 1e6; i++) p = new Proxy(p, {})
  p.x
})
