package plugins

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// State is what a plugin is doing.
type State string

// The states.
const (
	Stopped  State = "stopped"  // not enabled, or the host does not run
	Starting State = "starting" // up to the handshake
	Running  State = "running"
	Waiting  State = "waiting" // to be started again
	Failing  State = "failing" // so, too, but someone must act
	Broken   State = "broken"  // its manifest cannot be used, and it never had another
)

// PluginStatus is how a plugin is.
type PluginStatus struct {
	Name     string
	State    State
	Since    time.Time // of the state
	PID      int       // 0 unless Running
	Version  string    // as the plugin says; empty before it first ran
	Restarts int       // since its manifest changed
	Retry    time.Time // when it is started again; zero unless Waiting or Failing
	// LastError is why it was last down, or what is wrong with its manifest.
	// Empty is nothing.
	LastError string
	Drivers   []string
	Functions []FuncInfo // sorted by name
}

// status is nil when there is no such plugin.
func (s *slot) status() *PluginStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.want == nil && s.problem == nil {
		return nil
	}
	st := &PluginStatus{Name: s.name, State: s.state, Since: s.since, Restarts: s.restarts, Version: s.version}
	var errs []error
	if s.problem != nil {
		errs = append(errs, s.problem)
	}
	if s.err != nil {
		errs = append(errs, s.err)
	}
	if err := errors.Join(errs...); err != nil {
		st.LastError = err.Error()
	}
	if s.want == nil {
		st.State = Broken
		return st
	}
	st.Drivers, st.Functions = slices.Clone(s.want.Drivers), s.functions()
	switch s.state {
	case Running:
		if s.inst != nil {
			st.PID = s.inst.pid
		}
	case Waiting, Failing:
		st.Retry = s.retry
	case Stopped, Starting, Broken:
	}
	return st
}

// functions are those of the manifest, and what is known of them. The caller holds mu.
func (s *slot) functions() []FuncInfo {
	var list []FuncInfo
	for _, name := range slices.Sorted(slices.Values(s.want.Functions)) {
		info := FuncInfo{Name: name}
		if i := slices.IndexFunc(s.funcs, func(f FuncInfo) bool { return f.Name == name }); i >= 0 {
			info = s.funcs[i]
		}
		list = append(list, info)
	}
	return list
}

// String gives one line for people.
func (p PluginStatus) String() string {
	s := fmt.Sprintf("%s %s", p.Name, p.State)
	if p.PID != 0 {
		s += fmt.Sprintf(" (version %s, pid %d)", p.Version, p.PID)
	}
	if p.LastError != "" {
		s += ": " + p.LastError
	}
	return s
}
