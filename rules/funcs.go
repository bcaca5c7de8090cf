package rules

import "context"

// Funcs are functions by name that rules may call, of which the engine knows nothing
// else: those of plugins.
type Funcs interface {
	// Call calls a function with the arguments in a JSON array and returns its result,
	// JSON. It bounds its own time, by what the function may take, and ends with ctx. The
	// error says which function failed, whose it is, and why.
	Call(ctx context.Context, name string, args []byte) ([]byte, error)
}
