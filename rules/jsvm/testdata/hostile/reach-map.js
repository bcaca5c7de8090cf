// A source map that is a file of the machine.
// expect: harmless
on('attack', () => publish('a', 1))
//# sourceMappingURL=/etc/passwd
