// Code from text, by the constructor of a generator.
// expect: scripts cannot make code from text
on('attack', (msg) => {
  (function* () {}).constructor('return process')()
})
