// Whatever other engines have.
// expect: harmless
on('attack', (msg) => {
  for (const name of ['process', 'Deno', 'Bun', 'fetch', 'XMLHttpRequest', 'WebAssembly', 'Worker', 'SharedArrayBuffer', 'Atomics', 'module'])
    if (globalThis[name] !== undefined) throw new Error(name + ' is there')
})
