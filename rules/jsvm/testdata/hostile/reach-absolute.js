// A file of the machine.
// expect: refused: only files of the rules folder can be required
require('/etc/passwd')
