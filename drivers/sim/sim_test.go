package sim_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
	"github.com/gatehouse/gatehouse/drivers/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// formula knows a few sources by heart; the true compiler is a package that a
// driver may not import.
func formula(source string) (func(map[string]any) (any, error), error) {
	known := map[string]func(map[string]any) (any, error){
		"t % 20 < 4": func(v map[string]any) (any, error) { return v["t"].(int)%20 < 4, nil },
		"ms":         func(v map[string]any) (any, error) { return v["ms"], nil },
		"value + dt": func(v map[string]any) (any, error) { return toFloat(v["value"]) + v["dt"].(float64), nil },
		"on":         func(v map[string]any) (any, error) { return v["on"], nil },
		"a_b":        func(v map[string]any) (any, error) { return v["a_b"], nil },
		"value":      func(v map[string]any) (any, error) { return v["value"], nil },
		"1/0":        func(map[string]any) (any, error) { return math.Inf(1), nil },
		"list":       func(map[string]any) (any, error) { return []int{1}, nil },
		"text":       func(map[string]any) (any, error) { return "x", nil },
		"fails":      func(map[string]any) (any, error) { return nil, errors.New("nil + 1") },
	}
	if f := known[source]; f != nil {
		return f, nil
	}
	return nil, fmt.Errorf("unknown name %s", source)
}

func toFloat(x any) float64 {
	switch x := x.(type) {
	case int:
		return float64(x)
	case float64:
		return x
	}
	return math.NaN()
}

const house = `driver: sim
every: 2s
points:
  open: {formula: "t % 20 < 4", every: 500ms}
  on: {initial: false, writable: true}
  heat: {formula: "value + dt", initial: 20, unit: "°C", writable: true, hold: 10s}
  level: {initial: 2.5, writable: true}
  name: {initial: hall, writable: true}
  a b: {formula: "on"}
  copy: {formula: "a_b", writable: true}
`

func TestSuite(t *testing.T) {
	drivertest.Run(t, sim.New(formula), drivertest.Config(t, "house", house), drivertest.Config(t, "bad", `driver: sim
points:
  a: {formula: fails}
  b: {formula: list}
`))
}

func open(t *testing.T, text string) drivers.Device {
	t.Helper()
	dev, err := sim.New(formula).Open(t.Context(), drivertest.Config(t, "house", text))
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

func read(t *testing.T, dev drivers.Device, point string) string {
	t.Helper()
	all, err := dev.Read(t.Context(), []string{point})
	if err != nil || len(all) != 1 {
		t.Fatalf("want one reading, got %v, %v", all, err)
	}
	if all[0].Quality != drivers.Good {
		return all[0].Err.Error()
	}
	return all[0].Value.String()
}

func TestFormulas(t *testing.T) {
	t.Run("tell the time since the device was opened", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			dev := open(t, house)
			for _, want := range []string{"true", "true", "false", "false", "false", "false", "false", "false", "false", "false", "true"} {
				if got := read(t, dev, "open"); got != want {
					t.Errorf("want open %s, got %s", want, got)
				}
				<-time.After(2 * time.Second)
			}
			if got := read(t, dev, "heat"); got != "42" {
				t.Errorf("want 20 + 22 s = 42, got %s", got)
			}
		})
	})
	t.Run("see the other points", func(t *testing.T) {
		dev := open(t, house)
		if err := dev.Write(t.Context(), "on", drivers.BoolValue(true)); err != nil {
			t.Fatal(err)
		}
		if a, b := read(t, dev, "a b"), read(t, dev, "copy"); a != "true" || b != "true" {
			t.Errorf("want true of both, got %s and %s", a, b)
		}
	})
	for source, want := range map[string]string{
		"1/0":   "the formula gave no finite number",
		"list":  "the formula gave neither true, false, a number nor text but a []int",
		"fails": "nil + 1",
		"value": "the formula gave nothing",
		"text":  "x",
		"ms":    "0",
	} {
		t.Run(source+" is judged", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := read(t, open(t, "driver: sim\npoints: {p: {formula: '"+source+"'}}\n"), "p"); got != want {
					t.Errorf("want %q, got %q", want, got)
				}
			})
		})
	}
}

func TestWrite(t *testing.T) {
	t.Run("a written value stands instead of the formula for its hold", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			dev := open(t, house)
			if err := dev.Write(t.Context(), "heat", drivers.IntValue(50)); err != nil {
				t.Fatal(err)
			}
			<-time.After(9 * time.Second)
			if got := read(t, dev, "heat"); got != "50" {
				t.Errorf("want 50 while it holds, got %s", got)
			}
			<-time.After(2 * time.Second)
			if got := read(t, dev, "heat"); got != "52" {
				t.Errorf("want the formula again after the hold, 50 + 2 s, got %s", got)
			}
		})
	})
	t.Run("without a hold it stands for good", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			dev := open(t, house)
			if err := dev.Write(t.Context(), "copy", drivers.TextValue("x")); err != nil {
				t.Fatal(err)
			}
			<-time.After(24 * time.Hour)
			if got := read(t, dev, "copy"); got != "x" {
				t.Errorf("want x, got %s", got)
			}
		})
	})
	for _, c := range []struct {
		point string
		value drivers.Value
		want  string // what is read then, or the error
	}{
		{"on", drivers.BoolValue(true), "true"},
		{"on", drivers.IntValue(1), "true"},
		{"on", drivers.TextValue("on"), `cannot write point "on": on is not true or false`},
		{"level", drivers.IntValue(3), "3"},
		{"level", drivers.BoolValue(true), `cannot write point "level": true is not a number`},
		{"name", drivers.TextValue("attic"), "attic"},
		{"name", drivers.IntValue(3), `cannot write point "name": 3 is not text`},
		{"open", drivers.BoolValue(true), `point "open" is not writable`},
		{"zz", drivers.BoolValue(true), `there is no point "zz"`},
	} {
		t.Run(c.point+" takes "+c.value.String()+" as it should", func(t *testing.T) {
			dev := open(t, house)
			got := ""
			if err := dev.Write(t.Context(), c.point, c.value); err != nil {
				got = err.Error()
			} else {
				got = read(t, dev, c.point)
			}
			if got != c.want {
				t.Errorf("want %q, got %q", c.want, got)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"a formula that does not compile", "driver: sim\npoints:\n  a: {formula: zz}\n", `f.yaml:3:16: point "a": unknown name zz`},
		{"a point of nothing", "driver: sim\npoints:\n  a: {unit: x}\n", `f.yaml:3:6: point "a" needs a formula or an initial value`},
		{"a hold without a formula", "driver: sim\npoints:\n  a: {initial: 1, writable: true, hold: 1s}\n", `f.yaml:3:41: point "a": hold is for a writable point with a formula`},
		{"a negative hold", "driver: sim\npoints:\n  a: {formula: ms, writable: true, hold: -1s}\n", `f.yaml:3:42: point "a": hold must not be negative`},
		{"an initial list", "driver: sim\npoints:\n  a: {initial: [1]}\n", `f.yaml:3:16: point "a": initial: gave neither`},
		{"no points", "driver: sim\n", `f.yaml:1:1: the key "points" is missing or empty`},
		{"an unknown key of a point", "driver: sim\npoints:\n  a: {initial: 1, fromula: 2}\n", `f.yaml:3:19: unknown field "fromula"`},
	} {
		t.Run(c.name+" has its place", func(t *testing.T) {
			_, err := sim.New(formula).Check(drivertest.Config(t, "f", c.text))
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("want %s, got %v", c.want, err)
			}
		})
	}
	t.Run("without a compiler a formula is an error", func(t *testing.T) {
		_, err := sim.New(nil).Check(drivertest.Config(t, "f", house))
		if !errors.Is(err, drivers.ErrConfig) {
			t.Errorf("want a device file error, got %v", err)
		}
	})
}
