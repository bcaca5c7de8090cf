package drivers_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/drivers"
)

func TestParseValue(t *testing.T) {
	for _, c := range []struct {
		in   string
		kind drivers.Kind
		out  string
	}{
		{"null", drivers.Null, "null"},
		{" true\n", drivers.Bool, "true"},
		{"false", drivers.Bool, "false"},
		{"0", drivers.Int, "0"},
		{"-0", drivers.Int, "0"},
		{"12345678", drivers.Int, "12345678"},
		{"9223372036854775807", drivers.Int, "9223372036854775807"},
		{"-9223372036854775808", drivers.Int, "-9223372036854775808"},
		{"9223372036854775808", drivers.Uint, "9223372036854775808"},
		{"18446744073709551615", drivers.Uint, "18446744073709551615"},
		{"21.50", drivers.Decimal, "21.5"},
		{"21.00", drivers.Int, "21"},
		{"-0.001", drivers.Decimal, "-0.001"},
		{"-0.0", drivers.Int, "0"},
		{"0.000000000000000001", drivers.Decimal, "0.000000000000000001"},
		{"922337203685477.5807", drivers.Decimal, "922337203685477.5807"},
		{"0.1234567890123456789", drivers.Float, "0.12345678901234568"},
		{"1e3", drivers.Float, "1000"},
		{"1E-9", drivers.Float, "1e-09"},
		{"1e21", drivers.Float, "1e+21"},
		{"1e-400", drivers.Float, "0"},
		{`"open"`, drivers.Text, `"open"`},
		{`"\u0041<\"\\\n\u0001"`, drivers.Text, `"A<\"\\\n\u0001"`},
		{`"客厅"`, drivers.Text, `"客厅"`},
		{`"\ud800"`, drivers.Text, `"` + "\uFFFD" + `"`},
		{` {"a": 1.50} `, drivers.JSON, `{"a": 1.50}`},
		{`[]`, drivers.JSON, `[]`},
	} {
		t.Run(c.in+" keeps its value", func(t *testing.T) {
			v, err := drivers.ParseValue([]byte(c.in))
			if err != nil || v.Kind() != c.kind || string(v.AppendJSON(nil)) != c.out {
				t.Errorf("want kind %d and %s, got kind %d and %s, %v", c.kind, c.out, v.Kind(), v.AppendJSON(nil), err)
			}
		})
	}
	for _, in := range []string{"", " ", "open", "{", "01", "1.", "+1", "nan", `"a`, "1 2", "\"\xff\"", "\xef\xbb\xbf1"} {
		t.Run(in+" is not JSON", func(t *testing.T) {
			if v, err := drivers.ParseValue([]byte(in)); !errors.Is(err, drivers.ErrNotJSON) {
				t.Errorf("want ErrNotJSON, got %v, %v", v, err)
			}
		})
	}
	t.Run("1e400 is more than a float holds", func(t *testing.T) {
		if v, err := drivers.ParseValue([]byte("1e400")); err == nil {
			t.Errorf("want an error, got %v", v)
		}
	})
}

func TestValues(t *testing.T) {
	type as struct {
		Bool   any
		Float  any
		Int    any
		Uint   any
		Exact  any
		String string
	}
	opt := func(v any, ok bool) any {
		if !ok {
			return nil
		}
		return v
	}
	for _, c := range []struct {
		name string
		v    drivers.Value
		want as
	}{
		{"null", drivers.Value{}, as{String: "null"}},
		{"true", drivers.BoolValue(true), as{true, 1.0, int64(1), uint64(1), [2]int64{1, 0}, "true"}},
		{"minus seven", drivers.IntValue(-7), as{true, -7.0, int64(-7), nil, [2]int64{-7, 0}, "-7"}},
		{"the least integer", drivers.IntValue(math.MinInt64), as{true, -0x1p63, int64(math.MinInt64), nil, [2]int64{math.MinInt64, 0}, "-9223372036854775808"}},
		{"the largest integer", drivers.UintValue(math.MaxUint64), as{true, 0x1p64, nil, uint64(math.MaxUint64), nil, "18446744073709551615"}},
		{"a whole float", drivers.FloatValue(1e15), as{true, 1e15, int64(1e15), uint64(1e15), nil, "1000000000000000"}},
		{"a fraction", drivers.FloatValue(0.1), as{true, 0.1, nil, nil, nil, "0.1"}},
		{"minus zero", drivers.FloatValue(math.Copysign(0, -1)), as{false, 0.0, int64(0), uint64(0), nil, "0"}},
		{"not a number", drivers.FloatValue(math.NaN()), as{String: "null"}},
		{"infinity", drivers.FloatValue(math.Inf(-1)), as{String: "null"}},
		{"a decimal", drivers.DecimalValue(2150, -2), as{true, 21.5, nil, nil, [2]int64{215, -1}, "21.5"}},
		{"a decimal below one", drivers.DecimalValue(-5, -3), as{true, -0.005, nil, nil, [2]int64{-5, -3}, "-0.005"}},
		{"a decimal that is whole", drivers.DecimalValue(5, 3), as{true, 5000.0, int64(5000), uint64(5000), [2]int64{5000, 0}, "5000"}},
		{"a large decimal", drivers.DecimalValue(9, 18), as{true, 9e18, int64(9e18), uint64(9e18), [2]int64{9e18, 0}, "9000000000000000000"}},
		{"a decimal beyond integers", drivers.DecimalValue(math.MaxInt64, 1), as{true, 9.223372036854775807e19, nil, nil, [2]int64{math.MaxInt64, 1}, "92233720368547758070"}},
		{"text", drivers.TextValue("a\xffb"), as{String: "a\uFFFDb"}},
	} {
		t.Run(c.name+" is what it is", func(t *testing.T) {
			b, okBool := c.v.Bool()
			f, okFloat := c.v.Float()
			n, okInt := c.v.Int()
			u, okUint := c.v.Uint()
			co, exp, okExact := c.v.Exact()
			got := as{opt(b, okBool), opt(f, okFloat), opt(n, okInt), opt(u, okUint), opt([2]int64{co, int64(exp)}, okExact), c.v.String()}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("and qualities pass through JSON", func(t *testing.T) {
		in := drivers.PointStatus{Value: drivers.DecimalValue(215, -1), Quality: drivers.Stale}
		text, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var out drivers.PointStatus
		if err := json.Unmarshal(text, &out); err != nil || !out.Value.Equal(in.Value) || out.Quality != in.Quality {
			t.Errorf("want %+v, got %+v, %v", in, out, err)
		}
		if err := json.Unmarshal([]byte(`{"quality":"fair"}`), &out); err == nil {
			t.Error("want an unknown quality refused")
		}
	})
}

func FuzzParseValue(f *testing.F) {
	for _, seed := range []string{
		"null", "true", "-0", "12345678", "18446744073709551615", "21.50", "-0.001", "1e-9", "1e400", `"a\u0001"`, `{"a":[1]}`, "9.99999999999999999",
		"0.000000000000000001", "123456789012345678901234567890", "+1", "nan", "\"\xff\"",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		v, err := drivers.ParseValue(payload)
		if err != nil {
			return
		}
		out := v.AppendJSON(nil)
		if !json.Valid(out) {
			t.Fatalf("%q became %q, which is not JSON", payload, out)
		}
		again, err := drivers.ParseValue(out)
		if err != nil || string(again.AppendJSON(nil)) != string(out) {
			t.Errorf("%q became %q and then %q, %v", payload, out, again.AppendJSON(nil), err)
		}
		was, isNumber := v.Float()
		is, _ := again.Float()
		if isNumber && was != is {
			t.Errorf("%q was %v and is %v", payload, was, is)
		}
	})
}

func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		"driver: fake\npoints:\n  a: {every: 1s}\n", "driver: !x y\n", "a: &a [*a]\n", "? a\n: b\n", "true: 1\n", "a: 5 parsecs\n", "{", "- a\n---\n- b\n", "<<: {a: 1}\n", "every: 5x\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := drivers.ParseConfig("d", "d.yaml", []byte(text))
		var at *drivers.ConfigError
		if err != nil {
			if !errors.As(err, &at) {
				t.Fatalf("want a *drivers.ConfigError, got %v", err)
			}
			return
		}
		var file fakeFile
		if err := cfg.Decode(&file); err != nil && !errors.As(err, &at) {
			t.Fatalf("want a *drivers.ConfigError, got %v", err)
		}
		if _, err := cfg.Common(); err != nil && !errors.As(err, &at) {
			t.Fatalf("want a *drivers.ConfigError, got %v", err)
		}
		for _, name := range cfg.Keys("$.points") {
			if err := cfg.Errorf(drivers.PointPath(name, "every"), "x"); !errors.As(err, &at) {
				t.Fatalf("want a *drivers.ConfigError, got %v", err)
			}
		}
	})
}

// The nearest float64 of a decimal is that of its digits.
func TestDecimalToFloat(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		v := drivers.DecimalValue(int64(random.Uint64()>>(random.Uint64()%64)), -int(random.Uint64()%19))
		got, _ := v.Float()
		if want, err := strconv.ParseFloat(v.String(), 64); err != nil || got != want {
			t.Fatalf("%s: want %v, got %v", v, want, got)
		}
	}
}
