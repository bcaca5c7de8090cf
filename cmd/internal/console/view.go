package console

import (
	"context"
	"encoding/json"
	"time"
)

// Source is what the console shows. Its methods may be called at any time, by any
// goroutine, and return fresh slices.
type Source interface {
	Clients() []Client
	// Topics returns the retained messages that filter matches, or limit of them if
	// there are more, by name. The error says that filter is not a topic filter.
	Topics(filter string, limit int) ([]Topic, error)
	Rules() []RuleFile
	Devices() []Device
	Plugins() []Plugin
}

// Asker is a Source that reads devices when it is asked to.
type Asker interface {
	// Ask reads points of a device now, none being all, and returns them with what was
	// read. The error says why nothing was.
	Ask(ctx context.Context, device string, points []string) ([]Point, error)
}

// Client is one session.
type Client struct {
	ID            string    `json:"id" doc:"Client identifier"`
	Username      string    `json:"username,omitempty"`
	Connected     bool      `json:"connected"`
	Version       string    `json:"version" doc:"Protocol version: 3.1, 3.1.1 or 5.0"`
	Listener      string    `json:"listener,omitempty"`
	Remote        string    `json:"remote,omitempty"`
	Since         time.Time `json:"since" doc:"When the connection began or, for a session without one, ended"`
	Subscriptions int       `json:"subscriptions" doc:"How many topic filters"`
	Queued        int       `json:"queued" doc:"Messages waiting"`
	InFlight      int       `json:"in_flight" doc:"Messages sent and not yet acknowledged"`
}

// Topic is one retained message.
type Topic struct {
	Topic   string    `json:"topic"`
	Payload string    `json:"payload" doc:"The first 1,024 bytes; what is not UTF-8 is replaced"`
	Bytes   int       `json:"bytes" doc:"Length of the whole payload"`
	QoS     int       `json:"qos"`
	Origin  string    `json:"origin,omitempty" doc:"client/ID, device/NAME, rule/NAME, plugin/NAME or uplink/NAME"`
	At      time.Time `json:"at"`
}

// RuleFile is one file of the rules folder.
type RuleFile struct {
	File     string    `json:"file"`
	Language string    `json:"language"`
	OK       bool      `json:"ok" doc:"The newest version is the one in force"`
	Error    string    `json:"error,omitempty" doc:"Why the newest version is not: file:line:column and the source line"`
	Loaded   time.Time `json:"loaded" doc:"When the version in force came into force"`
	Rules    []Rule    `json:"rules"`
}

// Rule is one rule with its counters.
type Rule struct {
	Name         string   `json:"name"`
	Line         int      `json:"line"`
	Stage        string   `json:"stage" enum:"before,after"`
	Filters      []string `json:"filters"`
	Schedules    []string `json:"schedules" doc:"What it runs by beside messages: every 10s, at 07:30, start"`
	Heard        uint64   `json:"heard" doc:"Messages that its filters matched"`
	Fired        uint64   `json:"fired"`
	NotEvaluated uint64   `json:"not_evaluated" doc:"Messages without what the rule calculates with"`
	Errors       uint64   `json:"errors"`
	Published    uint64   `json:"published"`
	Dropped      uint64   `json:"dropped" doc:"Messages that a filter dropped"`
	Rejected     uint64   `json:"rejected" doc:"Messages that a filter refused, or could not judge"`
	Replaced     uint64   `json:"replaced" doc:"Messages that a filter changed or redirected"`
	Looped       uint64   `json:"looped" doc:"Messages not published because too many rules stood behind them"`
	Refused      uint64   `json:"refused" doc:"Runs that did nothing although the condition held, because of mode, throttle, rate or once"`
	Shadow       bool     `json:"shadow,omitempty" doc:"What it would do is told, not done"`
	Shadowed     uint64   `json:"shadowed" doc:"Runs whose messages and requests were told, not made"`
	Suspended    uint64   `json:"suspended" doc:"Times that it was suspended, because messages went round through it"`
	LastError    string   `json:"last_error,omitempty"`
	Trace        []Run    `json:"trace" doc:"Its last runs, newest first"`
}

// Run is one run of a rule.
type Run struct {
	At      time.Time `json:"at"`
	Topic   string    `json:"topic,omitempty"`
	Trigger string    `json:"trigger,omitempty" doc:"The schedule that was due, or start"`
	Outcome string    `json:"outcome" doc:"fired, not fired, not evaluated, dropped, rejected, replaced, refused, shadow, missed or error"`
	Why     string    `json:"why,omitempty"`
	Facts   []Fact    `json:"facts,omitempty" doc:"What it looked at and did, of some runs"`
	Micro   float64   `json:"us" doc:"Microseconds it took"`
}

// Fact is one thing that a run of a rule looked at or did.
type Fact struct {
	What  string `json:"what" doc:"As it stands in the file"`
	Value string `json:"value" doc:"What it came to"`
}

// Device is one device.
type Device struct {
	Name          string    `json:"name"`
	Driver        string    `json:"driver"`
	Topic         string    `json:"topic"`
	Online        bool      `json:"online"`
	Reason        string    `json:"reason,omitempty" doc:"Why it is offline"`
	Since         time.Time `json:"since"`
	Error         string    `json:"error,omitempty" doc:"What is wrong with its file"`
	LastMalformed string    `json:"last_malformed,omitempty" doc:"Why what it said was last not understood"`
	Points        []Point   `json:"points"`
	Counters      any       `json:"counters" doc:"What happened to it, by name"`
	Line          *Line     `json:"line,omitempty" doc:"The serial line that it shares with others"`
	// DriverCounters and Gauges are the driver's own.
	DriverCounters  map[string]uint64  `json:"driver_counters,omitempty" doc:"What its driver counted, by name: timeouts, crc_errors"`
	Gauges          map[string]float64 `json:"gauges,omitempty" doc:"Numbers of its driver as they are now, by name: bus_load_percent"`
	ReadLatency     *Latency           `json:"read_latency,omitempty" doc:"How long reads took that were answered"`
	ExchangeLatency *Latency           `json:"exchange_latency,omitempty" doc:"How long single requests took to their answer"`
}

// Line is a line that devices share.
type Line struct {
	Name    string   `json:"name"`
	Speed   string   `json:"speed"`
	Devices []string `json:"devices"`
	Asked   float64  `json:"asked" doc:"How much of its time the device files ask for, in percent: a forecast"`
	Busy    float64  `json:"busy" doc:"How much of the last minute it was in use, in percent"`
	Warning string   `json:"warning,omitempty" doc:"That too much is asked for, and what to do"`
}

// Latency is how long something took, in milliseconds.
type Latency struct {
	Count uint64  `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50" doc:"Half took no longer"`
	P95   float64 `json:"p95"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

// Point is one point with its last reading.
type Point struct {
	Name     string          `json:"name"`
	Topic    string          `json:"topic"`
	Unit     string          `json:"unit,omitempty"`
	Writable bool            `json:"writable"`
	Value    json.RawMessage `json:"value"`
	Quality  string          `json:"quality" enum:"good,stale,bad"`
	At       time.Time       `json:"at"`
	Error    string          `json:"error,omitempty" doc:"Why the value is not good; it is the last known one then"`
	Min      json.RawMessage `json:"min,omitempty" doc:"The least that may be written"`
	Max      json.RawMessage `json:"max,omitempty"`
	Step     json.RawMessage `json:"step,omitempty"`
	Confirm  bool            `json:"confirm,omitempty" doc:"A command must be confirmed"`
	History  bool            `json:"history,omitempty" doc:"Its numbers are kept"`
	Names    []string        `json:"names,omitempty" doc:"Of an enumeration or of flags"`
}

// Plugin is one plugin process.
type Plugin struct {
	Name     string   `json:"name"`
	State    string   `json:"state"`
	PID      int      `json:"pid,omitempty"`
	Version  string   `json:"version,omitempty"`
	Restarts int      `json:"restarts"`
	Error    string   `json:"error,omitempty"`
	Drivers  []string `json:"drivers"`
	// Functions are what rules can call.
	Functions []PluginFunction `json:"functions"`
}

// PluginFunction is a function that a plugin offers to rules.
type PluginFunction struct {
	Name    string `json:"name"`
	Doc     string `json:"doc,omitempty"`
	Timeout string `json:"timeout,omitempty" doc:"How long a call may take; known once the plugin has run"`
}

// Listener is one address that clients connect to.
type Listener struct {
	Name         string           `json:"name"`
	Protocol     string           `json:"protocol" enum:"mqtt,mqtts,ws,wss,unix"`
	Address      string           `json:"address" doc:"As it is bound"`
	Accepted     int64            `json:"accepted" doc:"Sockets taken, those refused later among them"`
	Refused      map[string]int64 `json:"refused" doc:"Connections refused, by why"`
	Handshakes   int64            `json:"handshakes" doc:"TLS handshakes made"`
	Certificates []Certificate    `json:"certificates"`
}

// Certificate is one that a listener shows.
type Certificate struct {
	File    string    `json:"file"`
	Names   []string  `json:"names" doc:"DNS names and addresses that it is for"`
	Expires time.Time `json:"expires"`
	SHA256  string    `json:"sha256" doc:"Fingerprint"`
}
