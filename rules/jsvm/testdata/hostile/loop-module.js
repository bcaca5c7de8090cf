// A module that does not end.
// expect: refused: did not return within
require('./_loop')
