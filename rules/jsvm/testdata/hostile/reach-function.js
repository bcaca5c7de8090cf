// Code from text, by the constructor of a constructor.
// expect: scripts cannot make code from text
on('attack', (msg) => {
  ({}).constructor.constructor('return process')()
})
