// Code from text, by a function of the gateway.
// expect: scripts cannot make code from text
on('attack', (msg) => {
  publish.constructor('return process')()
})
