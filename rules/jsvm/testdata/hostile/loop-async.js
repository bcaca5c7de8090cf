// An async function that awaits for ever, each time a moment.
// expect: did not return within
on('attack', (msg) => {
  (async () => { for (;;) await null })()
})
