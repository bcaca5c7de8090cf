package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/topic"
	"github.com/gatehouse/gatehouse/cmd/internal/console"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/rules"
)

// view shows the gateway to the console.
type view struct{ g *Gateway }

func (v view) Clients() []console.Client {
	var all []console.Client
	for _, c := range v.g.broker.Clients() {
		if c.Principal != "" { // the name that counts: that of a certificate, say
			c.Username = c.Principal
		}
		all = append(all, console.Client{
			ID: c.ClientID, Username: c.Username, Connected: c.Connected, Version: versionName(c.Version),
			Listener: c.Listener, Remote: c.Remote, Since: c.Since,
			Subscriptions: c.Subscriptions, Queued: c.Queued, InFlight: c.InFlight,
		})
	}
	return all
}

func versionName(v packet.Version) string {
	switch v {
	case packet.V31:
		return "3.1"
	case packet.V311:
		return "3.1.1"
	case packet.V5:
		return "5.0"
	}
	return ""
}

// shownPayload is how many bytes of a payload the console gets.
const shownPayload = 1024

func (v view) Topics(filter string, limit int) ([]console.Topic, error) {
	if !topic.ValidFilter(filter) {
		return nil, fmt.Errorf("%q is not a topic filter: + must be a whole level, # the whole last level", filter)
	}
	var all []console.Topic
	for _, m := range v.g.broker.Retained(filter, limit) {
		shown := m.Payload[:min(len(m.Payload), shownPayload)]
		all = append(all, console.Topic{
			Topic: m.Topic, Payload: strings.ToValidUTF8(string(shown), "\uFFFD"), Bytes: len(m.Payload),
			QoS: int(m.QoS), Origin: m.Origin, At: m.At,
		})
	}
	slices.SortFunc(all, func(a, b console.Topic) int { return cmp.Compare(a.Topic, b.Topic) })
	return all, nil
}

func (v view) Rules() []console.RuleFile {
	var all []console.RuleFile
	for _, f := range v.g.rules.Status() {
		file := console.RuleFile{File: f.File, Language: f.Language, OK: f.Err == nil, Loaded: f.Loaded, Rules: []console.Rule{}}
		if f.Err != nil {
			file.Error = f.Err.Error()
		}
		for _, r := range f.Rules {
			file.Rules = append(file.Rules, viewRule(r))
		}
		all = append(all, file)
	}
	return all
}

// schedules are what a rule runs by, in the words of its file.
func schedules(r *rules.Rule) []string {
	all := []string{}
	if r.Start {
		all = append(all, "start")
	}
	for _, s := range r.Schedules {
		all = append(all, s.String())
	}
	return all
}

func viewRule(r rules.RuleStatus) console.Rule {
	stage := "after"
	if r.Stage == rules.Before {
		stage = "before"
	}
	shown := console.Rule{
		Name: r.Name, Line: r.Line, Stage: stage, Filters: append([]string{}, r.Filters...), Schedules: schedules(&r.Rule),
		Heard: r.Counters.Heard, Fired: r.Counters.Fired, NotEvaluated: r.Counters.NotEvaluated, Errors: r.Counters.Errors,
		Published: r.Counters.Published, Dropped: r.Counters.Dropped, Rejected: r.Counters.Rejected, Replaced: r.Counters.Replaced,
		Looped: r.Counters.Looped, Refused: r.Counters.Refused, Shadow: r.Shadow, Shadowed: r.Counters.Shadowed, Suspended: r.Counters.Suspended,
		LastError: r.LastError, Trace: []console.Run{},
	}
	for _, t := range r.Trace {
		run := console.Run{
			At: t.At, Topic: t.Topic, Trigger: t.Trigger, Outcome: t.Outcome, Why: t.Why, Micro: float64(t.Took.Nanoseconds()) / 1000,
		}
		for _, f := range t.Facts {
			run.Facts = append(run.Facts, console.Fact(f))
		}
		shown.Trace = append(shown.Trace, run)
	}
	return shown
}

func (v view) Devices() []console.Device {
	var all []console.Device
	lines := v.lines()
	for _, d := range v.g.devices.Status() {
		device := console.Device{
			Name: d.Name, Driver: d.Driver, Topic: d.Topic, Online: d.Online, Reason: d.Reason, Since: d.Since,
			Error: d.FileError, LastMalformed: d.LastMalformed, Points: []console.Point{}, Counters: d.Counters,
			DriverCounters: d.Metrics.Counters, Gauges: d.Metrics.Gauges,
			ReadLatency: viewLatency(&d.Reads), ExchangeLatency: viewLatency(&d.Metrics.Exchanges),
		}
		for _, p := range d.Points {
			device.Points = append(device.Points, viewPoint(p))
		}
		device.Line = lines[d.Name]
		all = append(all, device)
	}
	return all
}

// Ask implements console.Asker.
func (v view) Ask(ctx context.Context, device string, points []string) ([]console.Point, error) {
	read, err := v.g.devices.Ask(ctx, device, points)
	if err != nil {
		return nil, err
	}
	shown := make([]console.Point, len(read))
	for i := range read {
		shown[i] = viewPoint(read[i])
	}
	return shown, nil
}

// lines are the lines that devices share, by device.
func (v view) lines() map[string]*console.Line {
	byDevice := make(map[string]*console.Line)
	for _, l := range v.g.devices.Lines() {
		shown := &console.Line{
			Name: l.Name, Speed: l.Speed, Devices: l.Devices, Asked: math.Round(10*l.Asked) / 10, Busy: math.Round(10*l.Busy) / 10,
			Warning: l.Warning(),
		}
		for _, name := range l.Devices {
			byDevice[name] = shown
		}
	}
	return byDevice
}

// viewLatency is nil if nothing was measured.
func viewLatency(l *drivers.Latency) *console.Latency {
	if l.Count == 0 {
		return nil
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return &console.Latency{
		Count: l.Count, Mean: ms(l.Sum / time.Duration(l.Count)), Max: ms(l.Most),
		P50: ms(l.Quantile(0.5)), P95: ms(l.Quantile(0.95)), P99: ms(l.Quantile(0.99)),
	}
}

func viewPoint(p drivers.PointStatus) console.Point {
	shown := console.Point{
		Name: p.Name, Topic: p.Topic, Unit: p.Unit, Writable: p.Writable, Value: json.RawMessage(p.Value.AppendJSON(nil)),
		Quality: p.Quality.String(), At: p.At, Error: p.Error, Confirm: p.Confirm, History: p.History,
		Min: number(p.Min), Max: number(p.Max), Step: number(p.Step),
	}
	for _, n := range p.Names {
		shown.Names = append(shown.Names, n.Name)
	}
	for _, f := range p.Flags {
		shown.Names = append(shown.Names, f.Name)
	}
	return shown
}

// number is nil for null, which is none.
func number(v drivers.Value) json.RawMessage {
	if v.IsNull() {
		return nil
	}
	return v.AppendJSON(nil)
}

// listeners is what clients connect to.
func (v view) listeners() []console.Listener {
	var all []console.Listener
	for _, l := range v.g.opened() {
		st := l.Stats()
		shown := console.Listener{
			Name: st.Name, Protocol: st.Protocol, Address: st.Address,
			Accepted: st.Accepted, Refused: st.Refused, Handshakes: st.Handshakes, Certificates: []console.Certificate{},
		}
		for _, c := range l.Certificates() {
			shown.Certificates = append(shown.Certificates, console.Certificate{
				File: c.File, Names: c.Names, Expires: c.Expires, SHA256: c.Fingerprint,
			})
		}
		all = append(all, shown)
	}
	return all
}

func (v view) Plugins() []console.Plugin {
	var all []console.Plugin
	for _, p := range v.g.plugins.Status() {
		functions := []console.PluginFunction{}
		for _, f := range p.Functions {
			shown := console.PluginFunction{Name: f.Name, Doc: f.Doc}
			if f.Timeout > 0 {
				shown.Timeout = f.Timeout.String()
			}
			functions = append(functions, shown)
		}
		all = append(all, console.Plugin{
			Name: p.Name, State: string(p.State), PID: p.PID, Version: p.Version, Restarts: p.Restarts, Error: p.LastError,
			Drivers: append([]string{}, p.Drivers...), Functions: functions,
		})
	}
	return all
}
