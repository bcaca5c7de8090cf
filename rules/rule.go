package rules

import (
	"context"
	"log/slog"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// Stage is where in a message's path a rule stands.
type Stage uint8

// The stages. The zero value is [After].
const (
	// After rules hear messages that were routed, and may publish.
	After Stage = iota
	// Before rules (filters) judge messages before they are routed.
	Before
)

// OnError is what a Before rule does with a message that it could not judge.
type OnError uint8

// The ways. The zero value is [RejectOnError].
const (
	RejectOnError OnError = iota // refuse the message: reason code 0x83
	PassOnError                  // let it go on unchanged
)

// Rule is one rule of a [Program].
type Rule struct {
	Name    string // as in the file, unique in it; never empty
	Line    int    // where it begins in the file, from 1
	Stage   Stage
	Filters []string    // what it hears; empty for timers and schedules only
	QoS     message.QoS // what it asks of the bus (After only)
	OnError OnError     // Before only
	Prev    bool        // it reads the previous message of the topic
	// Schedules are when it runs by the clock (After only), and Start says that it
	// runs when the engine starts with it.
	Schedules []Schedule
	Start     bool
}

// Schedule is times at which a rule runs.
type Schedule interface {
	// Next is the first one after a time, the zero time if there is none. A schedule
	// that has a method Monotonic keeps the monotonic reading of what it gets and is
	// made good once when the machine was late; any other is by the wall clock.
	Next(after time.Time) time.Time
	// String says what it is in the words of the rule file: "at 07:30".
	String() string
}

// Place is where the gateway is, for the times of the sun.
type Place struct {
	Latitude, Longitude float64 // in degrees, north and east
}

// Language compiles rule files of one kind.
type Language interface {
	// Name is a lower-case word for logs and the API: "expr", "js".
	Name() string
	// Extensions are the file endings that it compiles: ".yaml".
	Extensions() []string
	// Compile turns a file into a program without any effect outside of it: what
	// a script's top level publishes waits for the [Start] call. What is wrong
	// with the file is an [Error], or several joined.
	Compile(ctx context.Context, src Source) (Program, error)
	// Run owns what the language needs while programs run (a worker process);
	// programs work only while it does. It blocks until ctx ends.
	Run(ctx context.Context) error
}

// Source is one file of the folder.
type Source struct {
	Name  string // path in the folder, with slashes: "house/door.js"
	Text  []byte
	State *State // the file's state, kept from version to version
	Place *Place // where the gateway is; nil if nobody has said it
	Zone  *time.Location
	Log   *slog.Logger
}

// Program is one compiled file. The engine makes one Run at a time for After rules,
// timers and starts; Before rules run concurrently with these and each other.
type Program interface {
	// Rules lists the program's rules, in the order of the file. It never changes.
	Rules() []Rule
	// Run makes the calls in order and returns an outcome for each. It returns
	// when all were made or ctx ended; a call that was not made has an Err.
	Run(ctx context.Context, calls []Call) []Outcome
	// Close ends the program; Run is not called after it.
	Close() error
}

// Trigger says what a [Call] is about.
type Trigger uint8

// The triggers.
const (
	OnMessage  Trigger = iota // Call.Rule hears Call.Message
	OnTimer                   // Call.Timer is due
	OnStart                   // the program came into force; made once, before all others but those of Before rules
	OnSchedule                // Call.Rule is due by Call.Schedule
)

// Call is one run of a rule.
type Call struct {
	Trigger Trigger
	Rule    int              // index in Program.Rules, for OnMessage and OnSchedule
	Message *message.Message // for OnMessage
	Prev    *message.Message // the topic's previous message, if Rule.Prev and there is one
	Timer   string           // for OnTimer: the TimerChange.ID
	// Schedule is what a call OnSchedule is due by, as its String says it, or "start".
	Schedule string
	Now      time.Time
}

// Outcome is what one call did. The zero value is "did not fire".
type Outcome struct {
	Fired   bool              // the condition held, or the handler ran to its end
	Verdict message.Verdict   // Before only
	Publish []message.Message // After, timer and start; Origin and Hops are set by the engine
	Timers  []TimerChange
	State   []StateChange // already made in Source.State; here to be kept
	Logs    []LogLine
	Err     error         // nil, ErrNotEvaluated (wrapped), or an *Error
	Took    time.Duration // what the call itself took
}

// TimerChange sets or stops a timer of a program. Timers belong to the program: a
// new version of the file starts with none.
type TimerChange struct {
	ID    string
	After time.Duration // due so long after Call.Now; 0 stops the timer
	Every bool          // due again each After
}

// StateChange is one key set or, with a nil Value, removed. Value is JSON.
type StateChange struct {
	Key   string
	Value []byte
}

// LogLine is what a rule had to say.
type LogLine struct {
	Level slog.Level
	Text  string
}
