package jsvm

// Bounds of what a script may be and do. What is over one is an error in the
// script, at the line that asked for it; memory and native recursion, which have
// no such place, end the worker.
const (
	maxSource  = 256 << 10 // bytes of a script
	maxNesting = 256       // open brackets in its source
	maxRules   = 500       // of a script
	maxFilters = 1000      // topic filters of a rule
	maxNames   = 1 << 20   // bytes of the names and topic filters of all its rules

	maxPayload = 4 << 20 // bytes of a message that a script can be given
	maxJSON    = 1 << 20 // bytes of a payload read as JSON, and of JSON.parse's text
	maxDepth   = 300     // nesting of JSON that is read
	maxValues  = 1 << 16 // values in JSON that is read, each of which takes 100 bytes and more
	maxPieces  = 1 << 18 // that a text is split into

	maxPublish    = 1000    // messages of an event
	maxOutput     = 4 << 20 // their bytes, all together
	maxProperties = 64      // user properties of a published message

	maxTimers   = 1000 // pending timers of a script
	maxLogs     = 100  // lines of an event
	maxLogLine  = 1024 // bytes of a line
	maxKey      = 1024 // bytes of a key of state
	maxText     = 8 << 20
	maxElements = 1 << 22 // of an array that a builtin makes at once
	maxStack    = 1000    // JavaScript calls within each other
)
