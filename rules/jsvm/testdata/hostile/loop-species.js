// A class whose arrays are made by an endless function.
// expect: did not return within
on('attack', (msg) => {
  class A extends Array { static get [Symbol.species]() { for (;;); } }
  new A(1, 2).map((x) => x)
})
