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
	// Watch rules hear what stands on topics, for the other rules of their file to read.
	// They run before these, hear what is retained when they come into force, and are
	// neither counted nor shown; their outcome is to be empty. Beside rules that ask for a
	// QoS above 0 they hear each message twice, in the order of either subscription.
	Watch
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
	Filters []string // what it hears; empty for timers and schedules only
	// QoS is what it asks of the bus (After only). Above 0 it hears at least once: the
	// message is acknowledged when what the rule did with it is kept, and what comes
	// while the gateway is off waits.
	QoS     message.QoS
	OnError OnError // Before only
	// Priority is where a Before rule stands: those of a higher one judge first, whatever
	// their files are.
	Priority int
	Prev     bool // it reads the previous message of the topic
	// Schedules are when it runs by the clock (After only), and Start says that it
	// runs when the engine starts with it.
	Schedules []Schedule
	Start     bool
	// Grace is how long ago a schedule may have been due that went by while the gateway
	// was off, asleep or without a clock, to be made good, once: 0 means an hour, below
	// 0 none is.
	Grace time.Duration
	// Retained says that it hears, as Message.Retain tells, what is retained when it
	// comes into force, after the Watch rules of its file did (After only).
	Retained bool
	// Hooks are the names of the webhooks that run it: the message of such a call has
	// the topic $hook/NAME (After only).
	Hooks []string
	// Early says that it may run at any time, also before the program is started, so that
	// what is retained is known to the first Before rule that runs (Watch only).
	Early bool
	// Shadow says that what it would publish and request is told, not done (After only).
	Shadow bool
	// Hidden says that it is a part of another rule of the file, the one of Outcome.For: it
	// is not shown, and a call of it is counted for that rule, or not at all (After only).
	Hidden bool
	// Called says that nothing triggers it: other rules of the file do its steps as theirs.
	Called bool
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
	// with the file is an [Error], or several joined. Files of one folder are compiled
	// at the same time.
	Compile(ctx context.Context, src Source) (Program, error)
	// Run owns what the language needs while programs run (a worker process);
	// programs work only while it does. It blocks until ctx ends.
	Run(ctx context.Context) error
}

// Selective is a [Language] that leaves out some files of its endings: those which
// others of them read, and which have no rules of their own.
type Selective interface {
	// Skips reports whether the file of that name in the folder is not compiled.
	Skips(name string) bool
}

// Source is one file of the folder.
type Source struct {
	Name  string // path in the folder, with slashes: "house/door.js"
	Text  []byte
	State *State // the file's state, kept from version to version; at a start it is whole once Kept has returned
	// Read returns another file of the folder, by its path there, of at most
	// Limits.FileSize bytes; its error is an fs.ErrNotExist if there is none. The file is
	// compiled again whenever one that it has read, or looked for, changes. It may be
	// called until Compile returns.
	Read func(name string) ([]byte, error)
	// Kept returns what Program.Save said of the file in a former process, until one of its
	// programs has begun; it is not to be changed. At a start it waits for the Keeper, which
	// Compile need not do otherwise. It may be called until Compile returns.
	Kept  func() map[string][]byte
	Funcs Funcs  // of plugins; nil if there are none. Calling one has an effect: not in Compile
	Place *Place // where the gateway is; nil if nobody has said it
	Zone  *time.Location
	Log   *slog.Logger
}

// Program is one compiled file. The engine makes one Run at a time for all but Before
// rules, which run concurrently with the others and each other; Save and Handles are
// called when no such Run is.
type Program interface {
	// Rules lists the program's rules, in the order of the file. It never changes.
	Rules() []Rule
	// Run makes the calls in order and returns an outcome for each. It returns
	// when all were made or ctx ended; a call that was not made has an Err.
	Run(ctx context.Context, calls []Call) []Outcome
	// Handles reports whether a timer or request of that Name, which another version
	// or process of the file has left, is to go on in this one.
	Handles(name string) bool
	// Save gives what is to outlive the program, beside State, if it has changed since
	// Save was last called: JSON under a key of at most 1 KiB, nil if there is none any
	// more. It comes back by the OnStart call of what comes after it. The engine asks for
	// all every few seconds, before another version takes over, and when it ends; and for
	// what asked says, the part of it that an Outcome.Save was about, when there was one.
	// Then it is written each time, so it is to be in pieces that are small.
	//
	// put has an error if there is no room for a value: what was under the key before stays.
	// A program that cannot do with a part of what belongs together takes it all away, with
	// nil, which is never refused. Save returns an error that names the rule.
	Save(asked bool, put func(key string, value []byte) error) error
	// Close ends the program; Run is not called after it.
	Close() error
}

// Reuser is a [Program] that makes outcomes in the memory of former ones.
type Reuser interface {
	// Reuse takes back what Run has returned: nobody looks at the outcomes any more, nor at
	// the array of their Publish. What they point at beside that stays as it is.
	Reuse(outs []Outcome)
}

// Provisional is a [Program] that was compiled from what is remembered of its file.
type Provisional interface {
	// Outdated reports whether it has turned out, when it was started, that the file says
	// something else. Then it is compiled again.
	Outdated() bool
}

// Trigger says what a [Call] is about.
type Trigger uint8

// The triggers.
const (
	OnMessage  Trigger = iota // Call.Rule hears Call.Message
	OnTimer                   // Call.Timer is due
	OnStart                   // the program came into force; made once, before all others but those of Before rules
	OnSchedule                // Call.Rule is due by Call.Schedule
	OnReply                   // Call.Reply came
)

// Call is one run of a rule.
type Call struct {
	Trigger Trigger
	Rule    int              // index in Program.Rules, for OnMessage and OnSchedule
	Message *message.Message // for OnMessage
	Prev    *message.Message // the topic's previous message, if Rule.Prev and there is one
	// Promised says that what made the call does not come again once its outcome is kept: a
	// message that is acknowledged with it, a timer, a schedule or a reply that was kept. So
	// what the program remembers of it is to be kept with the rest: Outcome.Save asks for that.
	Promised bool
	Timer    string // for OnTimer: the TimerChange.ID; for OnReply the Request.ID
	Name     string // for OnTimer and OnReply, as the program gave it with Data
	Data     []byte
	// Schedule is what a call OnSchedule is due by, as its String says it, or "start".
	Schedule string
	// Late is how long ago a timer with a Name was due, or a schedule, that went by while
	// the gateway was off, asleep or without a clock; 0 for one that did not, or by less
	// than ninety seconds.
	Late  time.Duration
	Reply *Reply // for OnReply
	// Kept is, OnStart, what Save said of the version before, or in a former process. The
	// program is to leave what it has no use for.
	Kept map[string][]byte
	// Standing are, OnStart, the timers and requests that it handles.
	Standing []Standing
	// Timeline is, OnStart, what points in time are to be saved in; nil is the wall clock.
	Timeline Timeline
	// Explain asks for Outcome.Facts.
	Explain bool
	Now     time.Time
}

// Standing is a timer or a request that another version or process has left.
type Standing struct {
	ID, Name string
	Data     []byte
	Left     time.Duration // until the timer is due; 0 or below if it was meanwhile, and for a request
}

// Outcome is what one call did. The zero value is "did not fire".
type Outcome struct {
	Fired   bool            // the condition held, or the handler ran to its end
	Verdict message.Verdict // Before only
	Missed  bool            // it was due and is left out, because of Call.Late
	// Refused is why it did nothing although its condition held: "mode single: a run is on
	// its way". It is counted and shown.
	Refused string
	Publish []message.Message // After, timer and start; Origin and Hops are set by the engine
	Timers  []TimerChange
	State   []StateChange // already made in Source.State; here to be kept
	// Save asks for what Program.Save gives of it to be kept with the rest, not in a few
	// seconds only: the call was Promised, or did what a power cut is not to let happen again.
	Save bool
	// Requests are made once all else is kept.
	Requests []Request
	// Facts tell, in order, what the call looked at and did, if Call.Explain asks.
	Facts []Fact
	// For is the index of the rule that a timer, reply or hidden rule belongs to, plus one;
	// 0 is the file itself.
	For  int
	Logs []LogLine
	Err  error         // nil, ErrNotEvaluated (wrapped), or an *Error
	Took time.Duration // what the call itself took
}

// TimerChange sets or stops a timer of a program.
type TimerChange struct {
	ID    string
	After time.Duration // due so long after Call.Now; 0 stops the timer
	Every bool          // due again each After
	// Name keeps the timer, with Data, beyond the program and the process: see
	// Program.Handles. Without one it belongs to the program, and a new version of the
	// file starts without it. ID, Name and Data together have at most 64 KiB.
	Name string
	Data []byte // JSON
}

// Request asks for an HTTP request. It is made at least once, and its reply comes as a
// call OnReply, with an error if none of the tries succeeded.
type Request struct {
	ID      string // unique among the requests of the file that are on their way
	Name    string // as of a TimerChange, but never empty
	Data    []byte // JSON
	Method  string // "" is GET
	URL     string
	Header  map[string]string
	Body    []byte
	Timeout time.Duration // of one try; 0 means 10 s, a minute is the most
	Retries int           // more tries, with a growing pause, if it fails or gives 429 or 5xx; 10 are the most
}

// Reply is what became of a [Request].
type Reply struct {
	Status int // of HTTP; 0 with Err
	Header map[string]string
	Body   []byte // at most 1 MiB
	Err    string // why there is no reply
}

// Fact is one thing that a call looked at or did.
type Fact struct {
	What  string // as it stands in the file: "if payload.open", "publish home/hall/light/set"
	Value string // what it came to, abridged
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
