package drivers

import (
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Point is one value of a device.
type Point struct {
	Name     string        // one or more topic levels, without wildcards
	Unit     string        // "°C"; empty is none
	Writable bool          // has a control topic
	Every    time.Duration // how often it is read; 0 is never: it is pushed
	Deadband float64       // as in PointCommon
	Longest  time.Duration // as in PointCommon

	Min, Max, Step Value // as in PointCommon: numbers, or null for none
	Confirm        bool  // as in PointCommon
	History        bool  // as in PointCommon
	Names          Names // as in PointCommon
	Flags          Flags // as in PointCommon

	Feed Feed // which topic a point of a [Server] shows; the zero value is none
}

// PointCommon are the keys of a point that mean the same for every driver.
type PointCommon struct {
	// Unit is for people: "°C".
	Unit string `yaml:"unit"`
	// Writable gives the point a control topic.
	Writable bool `yaml:"writable"`
	// Every is how often the point is read; left out it is the device's Every. The
	// Host refuses one below [ShortestEvery].
	Every time.Duration `yaml:"every"`
	// Deadband is the change of a number that is too small to publish; 0 means
	// that each change is published.
	Deadband float64 `yaml:"deadband"`
	// Longest is after how long an unchanged value is published again; 0 means
	// never.
	Longest time.Duration `yaml:"longest"`
	// Min and Max bound what may be written, Step says of which distances, from Min
	// or else from 0. They are exact decimals; left out there is no bound. They do
	// not judge what is read.
	Min  Number `yaml:"min"`
	Max  Number `yaml:"max"`
	Step Number `yaml:"step"`
	// Confirm has a command asked back before it is written: it must come again
	// with the token that its first answer carried.
	Confirm bool `yaml:"confirm"`
	// History keeps the readings that are published, if they are numbers.
	History bool `yaml:"history"`
	// Names are what the values of an enumeration are called: the point is
	// published and written by name.
	Names Names `yaml:"names"`
	// Flags are what the bits of a whole number are called: the point is published
	// and written as an object of true and false.
	Flags Flags `yaml:"flags"`
}

// Polled returns the point of a driver that is read every so often.
func (p PointCommon) Polled(name string, c Common) Point {
	pt := p.Pushed(name)
	pt.Every = firstPositive(p.Every, c.Every, DefaultEvery)
	return pt
}

// Pushed returns the point of a driver that speaks by itself.
func (p PointCommon) Pushed(name string) Point {
	return Point{
		Name: name, Unit: p.Unit, Writable: p.Writable, Deadband: p.Deadband, Longest: p.Longest,
		Min: p.Min.Value, Max: p.Max.Value, Step: p.Step.Value,
		Confirm: p.Confirm, History: p.History, Names: p.Names, Flags: p.Flags,
	}
}

// check says what a point's own keys contradict each other in, and the key.
func (p *Point) check() (key string, err error) {
	lowest, highest := rational(p.Min), rational(p.Max)
	switch step := rational(p.Step); {
	case lowest == nil && !p.Min.IsNull():
		return "min", errors.New("min must be a number")
	case highest == nil && !p.Max.IsNull():
		return "max", errors.New("max must be a number")
	case lowest != nil && highest != nil && lowest.Cmp(highest) > 0:
		return "min", fmt.Errorf("min %s is above max %s", p.Min, p.Max)
	case step == nil && !p.Step.IsNull(), step != nil && step.Sign() <= 0:
		return "step", errors.New("step must be a number above 0")
	case p.Confirm && !p.Writable:
		return "confirm", errors.New("confirm is for a writable point")
	case len(p.Names) > 0 && len(p.Flags) > 0:
		return "flags", errors.New("a point has either names or flags")
	}
	if err := p.Names.check(); err != nil {
		return "names", err
	}
	if err := p.Flags.check(); err != nil {
		return "flags", err
	}
	return "", nil
}

// Permits says why a value may not be written: it is no number, or outside of Min,
// Max and Step.
func (p *Point) Permits(v Value) error {
	if p.Min.IsNull() && p.Max.IsNull() && p.Step.IsNull() {
		return nil
	}
	n := rational(v)
	if n == nil {
		return fmt.Errorf("point %q: %s is not a number%s", p.Name, v.short(), p.within())
	}
	lowest, highest, step := rational(p.Min), rational(p.Max), rational(p.Step)
	if lowest != nil && n.Cmp(lowest) < 0 || highest != nil && n.Cmp(highest) > 0 {
		return fmt.Errorf("point %q: %s is outside of what may be written%s", p.Name, v.short(), p.within())
	}
	if step == nil {
		return nil
	}
	if lowest != nil {
		n.Sub(n, lowest)
	}
	if !n.Quo(n, step).IsInt() {
		return fmt.Errorf("point %q: %s is not a whole step%s", p.Name, v.short(), p.within())
	}
	return nil
}

// Nearest is the number that is nearest to v of those that are whole steps from Min, or
// from 0 if there is none, and the greater one of two that are as near. It may be outside
// of Min and Max. What is no number stays as it is, and so does any if there is no Step.
func (p *Point) Nearest(v Value) Value {
	n, step := rational(v), rational(p.Step)
	if n == nil || step == nil || step.Sign() <= 0 {
		return v
	}
	lowest := rational(p.Min)
	if lowest == nil {
		lowest = new(big.Rat)
	}
	n.Add(n.Quo(n.Sub(n, lowest), step), big.NewRat(1, 2))
	whole := new(big.Int).Div(n.Num(), n.Denom()) // rounds down, as the denominator is positive
	n.Add(n.Mul(n.SetInt(whole), step), lowest)
	digits, _ := n.FloatPrec() // all are decimals
	near, err := ParseNumber(n.FloatString(digits))
	if err != nil {
		return v
	}
	return near
}

// within says which numbers may be written: ", which is 5 to 30 in steps of 0.5".
func (p *Point) within() string {
	s := ", which is "
	switch {
	case !p.Min.IsNull() && !p.Max.IsNull():
		s += p.Min.String() + " to " + p.Max.String()
	case !p.Min.IsNull():
		s += "at least " + p.Min.String()
	case !p.Max.IsNull():
		s += "at most " + p.Max.String()
	default:
		return s + "a multiple of " + p.Step.String()
	}
	if !p.Step.IsNull() {
		s += " in steps of " + p.Step.String()
	}
	return s
}

// rational is a number exactly; nil is none.
func rational(v Value) *big.Rat {
	if !isNumber(v) {
		return nil
	}
	r, ok := new(big.Rat).SetString(v.String())
	if !ok {
		return nil
	}
	return r
}
