// Code from text, by the constructor of an async function.
// expect: scripts cannot make code from text
on('attack', (msg) => {
  (async () => {}).constructor('return process')()
})
