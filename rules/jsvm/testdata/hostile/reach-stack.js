// Paths of the machine in a stack.
// expect: harmless
on('attack', (msg) => {
  const stack = new Error('x').stack + (() => { try { publish() } catch (e) { return e.stack } })()
  if (/\/(root|home|usr|work|proc)\//.test(stack)) throw new Error(stack)
})
