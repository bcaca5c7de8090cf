// A hundred thousand requests.
// expect: an event may make at most 100 requests
on('attack', (msg) => {
  for (let i = 0; i < 1e5; i++) http('http://example.org/')
})
