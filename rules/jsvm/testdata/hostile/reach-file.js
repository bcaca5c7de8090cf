// A file by the way of a request.
// expect: is not an address
on('attack', (msg) => {
  http('file:///etc/passwd')
})
