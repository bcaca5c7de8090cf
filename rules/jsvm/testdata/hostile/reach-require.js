// A module of the machine.
// expect: refused: only files of the rules folder can be required
require('fs').readFileSync('/etc/passwd')
