// A module for loop-module.js.
// expect: module
for (;;);
