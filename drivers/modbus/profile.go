package modbus

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// Intervals of the classes of a profile's points, where the device file says nothing.
const (
	fastEvery   = time.Second
	normalEvery = 10 * time.Second
	slowEvery   = 5 * time.Minute
)

// mapFile is the keys of a device file that go with a profile.
type mapFile struct {
	// Profile names a file of Options.Profiles, whose points the device has.
	Profile string `yaml:"profile"`
	// Only keeps of the profile's points those that a pattern names, Except takes
	// some away. A pattern is a name with * and ?.
	Only   []string `yaml:"only"`
	Except []string `yaml:"except"`
	// Rename gives points of the profile other names.
	Rename map[string]string `yaml:"rename"`
	// Intervals say how often the classes of points are read.
	Intervals intervalsFile `yaml:"intervals"`
}

// intervalsFile is how often the points of each class are read; 0 is the default.
type intervalsFile struct {
	Fast   time.Duration `yaml:"fast"`
	Normal time.Duration `yaml:"normal"`
	Slow   time.Duration `yaml:"slow"`
}

// profileFile is a profile: the register map of a kind of device. The package
// drivers/profiles documents it.
type profileFile struct {
	Vendor   string                  `yaml:"vendor"`
	Models   []string                `yaml:"models"`
	Kind     string                  `yaml:"kind"`
	Sources  []string                `yaml:"sources"`
	Notes    string                  `yaml:"notes"`
	Serial   *serialFile             `yaml:"serial"`
	TCP      *scalar                 `yaml:"tcp"`
	Unit     *scalar                 `yaml:"unit"`
	Identity []identityFile          `yaml:"identity"`
	Points   map[string]profilePoint `yaml:"points"`
	Examples []exampleFile           `yaml:"examples"`
}

// profilePoint is a point of a profile.
type profilePoint struct {
	Point pointFile `yaml:",inline"`
	Class string    `yaml:"class"` // fast, normal (the default) or slow
}

// exampleFile is what a source says that registers mean.
type exampleFile struct {
	Point     string    `yaml:"point"`
	Registers []*scalar `yaml:"registers"`
	Value     *scalar   `yaml:"value"`
}

// readProfile reads a profile; what is wrong with it is told with its place.
func readProfile(profiles fs.FS, name string) (*profileFile, drivers.Config, error) {
	file := name + ".yaml"
	text, err := fs.ReadFile(profiles, file)
	if err != nil {
		return nil, drivers.Config{}, err
	}
	cfg, err := drivers.ParseConfig(name, "profiles/"+file, text)
	if err != nil {
		return nil, cfg, err
	}
	p := &profileFile{}
	return p, cfg, cfg.Decode(p)
}

// profileNames are the profiles that there are, sorted.
func profileNames(profiles fs.FS) []string {
	if profiles == nil {
		return nil
	}
	files, err := fs.Glob(profiles, "*.yaml")
	if err != nil { // the pattern is right
		return nil
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(f, ".yaml")
	}
	slices.Sort(files)
	return files
}

// applyProfile gives a device file what its profile says and it does not say itself.
func (f *deviceFile) applyProfile(cfg drivers.Config, profiles fs.FS) error {
	if f.Map.Profile == "" {
		return f.wantsProfile(cfg)
	}
	names := profileNames(profiles)
	if !slices.Contains(names, f.Map.Profile) {
		return cfg.Errorf("$.profile", "there is no profile %q%s", f.Map.Profile, likely(f.Map.Profile, names))
	}
	p, _, err := readProfile(profiles, f.Map.Profile)
	if err != nil {
		return err
	}
	if err := f.applyLine(cfg, p); err != nil {
		return err
	}
	chosen, err := f.choose(cfg, p)
	if err != nil {
		return err
	}
	all := make(map[string]pointFile, len(chosen)+len(f.Points))
	for _, old := range slices.Sorted(maps.Keys(chosen)) {
		name, point := old, chosen[old]
		if to, ok := f.Map.Rename[old]; ok {
			name = to
		}
		if _, twice := all[name]; twice {
			return cfg.Errorf("$.rename", "two points of profile %q would be called %q", f.Map.Profile, name)
		}
		if point.Point.Every == 0 {
			point.Point.Every = f.every(point.Class)
		}
		all[name] = override(cfg, name, point.Point, f.Points[name])
	}
	for name, own := range f.Points {
		if _, ok := all[name]; !ok {
			all[name] = own
		}
	}
	f.Points = all
	return nil
}

// wantsProfile refuses keys that mean nothing without a profile.
func (f *deviceFile) wantsProfile(cfg drivers.Config) error {
	for key, given := range map[string]bool{
		"only": f.Map.Only != nil, "except": f.Map.Except != nil, "rename": f.Map.Rename != nil, "intervals": f.Map.Intervals != intervalsFile{},
	} {
		if given {
			return cfg.Errorf("$."+key, "%s goes with a profile", key)
		}
	}
	return nil
}

// applyLine fills in how the device is reached. What no source of the profile tells of
// the line, the file has to say: a guess would look like a device that is dead.
func (f *deviceFile) applyLine(cfg drivers.Config, p *profileFile) error {
	if f.Unit == nil {
		f.Unit = p.Unit
	}
	if p.TCP != nil && f.Transport.TCP != "" && !hasPort(f.Transport.TCP) {
		f.Transport.TCP = strings.TrimSuffix(f.Transport.TCP, ":") + ":" + string(*p.TCP)
	}
	if f.Transport.Serial == nil {
		return nil
	}
	merged, known := *f.Transport.Serial, charactersFile{}
	if p.Serial != nil {
		known = p.Serial.Characters
	}
	c := &merged.Characters
	if c.Baud == nil {
		c.Baud = known.Baud
	}
	if c.Parity == "" {
		c.Parity = known.Parity
	}
	if c.StopBits == nil {
		c.StopBits = known.StopBits
	}
	f.Transport.Serial = &merged
	switch {
	case c.Baud == nil && c.Parity == "":
		return cfg.Errorf("$.serial", "profile %q does not know baud and parity of the device: give both as they are set on it", f.Map.Profile)
	case c.Baud == nil:
		return cfg.Errorf("$.serial", "profile %q does not know the baud rate of the device: give baud as it is set on it", f.Map.Profile)
	case c.Parity == "":
		return cfg.Errorf("$.serial", "profile %q does not know the parity of the device: give parity as it is set on it", f.Map.Profile)
	}
	return nil
}

// hasPort reports whether an address has a port; that of IPv6 needs brackets for it.
func hasPort(address string) bool {
	after := address[strings.LastIndex(address, "]")+1:]
	return strings.Count(after, ":") != 0
}

// choose keeps the points that the device file wants.
func (f *deviceFile) choose(cfg drivers.Config, p *profileFile) (map[string]profilePoint, error) {
	names := slices.Sorted(maps.Keys(p.Points))
	chosen := make(map[string]profilePoint)
	for _, name := range names {
		if f.Map.Only == nil || matches(f.Map.Only, name) {
			chosen[name] = p.Points[name]
		}
	}
	for key, patterns := range map[string][]string{"only": f.Map.Only, "except": f.Map.Except} {
		for i, pattern := range patterns {
			if !slices.ContainsFunc(names, func(name string) bool { return matches([]string{pattern}, name) }) {
				return nil, cfg.Errorf(fmt.Sprintf("$.%s[%d]", key, i), "profile %q has no point %q%s", f.Map.Profile, pattern, likely(pattern, names))
			}
		}
	}
	maps.DeleteFunc(chosen, func(name string, _ profilePoint) bool { return matches(f.Map.Except, name) })
	for _, name := range slices.Sorted(maps.Keys(f.Map.Rename)) {
		if _, ok := chosen[name]; !ok {
			return nil, cfg.Errorf("$.rename", "profile %q has no point %q that is chosen%s", f.Map.Profile, name, likely(name, names))
		}
	}
	return chosen, nil
}

// matches reports whether one of the patterns names a point. One that is no pattern
// names nothing.
func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return err == nil && ok
	})
}

// every is how often a class of points is read: as the file says, else as is usual
// for the class, but fast ones as the device's "every" says, and no other faster
// than that.
func (f *deviceFile) every(class string) time.Duration {
	switch class {
	case "fast":
		return firstOf(f.Map.Intervals.Fast, f.Every, fastEvery)
	case "slow":
		return firstOf(f.Map.Intervals.Slow, max(f.Every, slowEvery))
	default:
		return firstOf(f.Map.Intervals.Normal, max(f.Every, normalEvery))
	}
}

func firstOf(ds ...time.Duration) time.Duration {
	for _, d := range ds {
		if d > 0 {
			return d
		}
	}
	return 0
}

// override gives a point of a profile the keys that the device file has for it. One
// that names a table of its own is the file's alone.
func override(cfg drivers.Config, name string, point, own pointFile) pointFile {
	keys := cfg.Keys(drivers.PointPath(name))
	for _, table := range []string{"coil", "discrete", "input", "holding"} {
		if slices.Contains(keys, table) {
			return own
		}
	}
	overlay(reflect.ValueOf(&point).Elem(), reflect.ValueOf(own), keys)
	return point
}

// overlay copies the fields of the struct from that have one of the keys.
func overlay(to, from reflect.Value, keys []string) {
	for i := range to.NumField() {
		key, options, _ := strings.Cut(to.Type().Field(i).Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			overlay(to.Field(i), from.Field(i), keys)
		case slices.Contains(keys, key):
			to.Field(i).Set(from.Field(i))
		}
	}
}

// likely proposes the names that a wrong one may stand for, eight at most.
func likely(wrong string, names []string) string {
	var close []string
	for _, name := range names {
		if strings.Contains(name, wrong) || strings.Contains(wrong, name) || strings.HasPrefix(name, wrong[:min(3, len(wrong))]) {
			close = append(close, name)
		}
	}
	if len(close) == 0 {
		return ""
	}
	return "; there is " + strings.Join(close[:min(8, len(close))], ", ")
}

// check judges a profile on its own. The error is a *drivers.ConfigError.
func (p *profileFile) check(cfg drivers.Config) error {
	switch {
	case p.Vendor == "" || len(p.Models) == 0 || p.Kind == "":
		return cfg.Errorf("$", "a profile needs vendor, models and kind")
	case len(p.Sources) == 0:
		return cfg.Errorf("$", "a profile needs the sources of its points")
	case p.Serial == nil && p.TCP == nil:
		return cfg.Errorf("$", "a profile needs serial or tcp")
	}
	names, err := pointNames(cfg, p.Points)
	if err != nil {
		return err
	}
	for _, name := range names {
		if class := p.Points[name].Class; !slices.Contains([]string{"", "fast", "normal", "slow"}, class) {
			return cfg.Errorf(drivers.PointPath(name, "class"), "class must be fast, normal or slow, not %q", class)
		}
		if _, err := p.Points[name].Point.check(cfg, name, drivers.Common{}); err != nil {
			return err
		}
	}
	for i, id := range p.Identity {
		if _, err := id.check(); err != nil {
			return cfg.Errorf(fmt.Sprintf("$.identity[%d]", i), "%v", err)
		}
	}
	return nil
}

// identityFile is registers that tell a device from others: numbers, or text.
type identityFile struct {
	Input   *scalar   `yaml:"input"`
	Holding *scalar   `yaml:"holding"`
	Values  []*scalar `yaml:"values"` // of the one register
	Text    string    `yaml:"text"`   // that the registers begin with
}

// Mark is registers that tell a kind of device from others.
type Mark struct {
	Function Function // ReadInputRegisters or ReadHoldingRegisters
	Address  uint16
	Count    uint16   // of registers
	Values   []uint16 // that the first register may have; nil: see Text
	Text     string   // that the registers begin with, two characters each
}

// Matches reports whether registers, as they came, are those of the device.
func (i Mark) Matches(registers []byte) bool {
	if i.Text != "" {
		return strings.HasPrefix(string(registers), i.Text)
	}
	return len(registers) >= 2 && slices.Contains(i.Values, uint16(registers[0])<<8|uint16(registers[1]))
}

func (f identityFile) check() (Mark, error) {
	i := Mark{Function: ReadInputRegisters, Count: 1, Text: f.Text}
	at := f.Input
	if at == nil {
		i.Function, at = ReadHoldingRegisters, f.Holding
	}
	if at == nil || (f.Input != nil && f.Holding != nil) || (f.Text == "") == (len(f.Values) == 0) {
		return i, errors.New("an identity has one of input and holding, and one of values and text")
	}
	n, err := at.whole("the address", 0, 1<<16-1)
	if err != nil {
		return i, err
	}
	i.Address = uint16(n)
	if f.Text != "" {
		i.Count = uint16(len(f.Text)+1) / 2
	}
	for _, v := range f.Values {
		n, err := v.whole("a value", 0, 1<<16-1)
		if err != nil {
			return i, err
		}
		i.Values = append(i.Values, uint16(n))
	}
	return i, nil
}

// Profile tells what a profile is for.
type Profile struct {
	Name    string // "eastron-sdm630"
	Vendor  string
	Models  []string
	Kind    string // "energy meter"
	Sources []string
	Notes   string
	Points  int
	Unit    uint8 // as the device leaves the factory; 1 if no source says
	// Serial is the line as the device leaves the factory, without a port. Baud is 0 and
	// Parity is "" where no source says.
	Serial SerialConfig
	RTU    bool   // whether the device has a serial line
	TCP    uint16 // its port; 0 if it has no Ethernet socket
	// Marks are the registers that tell the device; it has to match all of them.
	// Nothing is that it cannot be told from others.
	Marks []Mark
	Text  []byte // the file
}

// Profiles tells of every profile, by name. The error joins a *drivers.ConfigError for
// each that is not right.
func Profiles(profiles fs.FS) ([]Profile, error) {
	var all []Profile
	var errs []error
	for _, name := range profileNames(profiles) {
		p, err := oneProfile(profiles, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, p)
	}
	return all, errors.Join(errs...)
}

func oneProfile(profiles fs.FS, name string) (Profile, error) {
	f, cfg, err := readProfile(profiles, name)
	if err != nil {
		return Profile{}, err
	}
	if err := f.check(cfg); err != nil {
		return Profile{}, err
	}
	p := Profile{
		Name: name, Vendor: f.Vendor, Models: f.Models, Kind: f.Kind, Sources: f.Sources, Notes: f.Notes,
		Points: len(f.Points), Unit: defaultUnit, Text: cfg.Text,
	}
	if f.Serial != nil {
		f.Serial.Port = "any"
		if p.Serial, err = f.Serial.check(cfg); err != nil {
			return p, err
		}
		p.RTU, p.Serial.Port, p.Serial.Parity = true, "", f.Serial.Characters.Parity
		if f.Serial.Characters.Baud == nil {
			p.Serial.Baud = 0
		}
	}
	for _, n := range []struct {
		key  string
		text *scalar
		high int64
		set  func(int64)
	}{
		{"unit", f.Unit, 255, func(n int64) { p.Unit = uint8(n) }},
		{"tcp", f.TCP, 1<<16 - 1, func(n int64) { p.TCP = uint16(n) }},
	} {
		if n.text == nil {
			continue
		}
		v, err := n.text.whole(n.key, 0, n.high)
		if err != nil {
			return p, cfg.Errorf("$."+n.key, "%v", err)
		}
		n.set(v)
	}
	for _, id := range f.Identity {
		one, err := id.check()
		if err != nil { // it was checked
			return p, err
		}
		p.Marks = append(p.Marks, one)
	}
	return p, nil
}
