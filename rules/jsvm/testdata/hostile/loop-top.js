// A top level that does not end.
// expect: refused: did not return within
while (true);
