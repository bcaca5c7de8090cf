// Memory that is kept from event to event.
// expect: anything
const hoard = []
on('attack', (msg) => {
  for (let i = 0; i < 200000; i++) hoard.push({ i })
  if (hoard.length > 1e7) throw new Error('nobody noticed')
})
