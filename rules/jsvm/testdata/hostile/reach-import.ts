// A file outside of the folder.
// expect: refused: it is outside of the rules folder
import text from '../../../../../etc/passwd'
publish('a', text)
