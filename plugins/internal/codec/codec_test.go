package codec_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/plugins/internal/codec"
	"github.com/gatehouse/gatehouse/plugins/wire"
)

// travel sends a message as bytes.
func travel[M proto.Message](t testing.TB, m, into M) M {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatalf("Marshal: %v", err)
	}
	if err := proto.Unmarshal(b, into); err != nil {
		t.Fatalf("Unmarshal: %v", err)
	}
	return into
}

func parse(t *testing.T, text string) drivers.Value {
	t.Helper()
	v, err := drivers.ParseValue([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestValuesAreExact(t *testing.T) {
	for _, v := range []drivers.Value{
		{},
		drivers.BoolValue(true), drivers.BoolValue(false),
		drivers.IntValue(0), drivers.IntValue(-1), drivers.IntValue(math.MinInt64), drivers.IntValue(math.MaxInt64), drivers.IntValue(1<<53 + 1),
		drivers.UintValue(0), drivers.UintValue(math.MaxUint64), drivers.UintValue(1 << 63),
		drivers.FloatValue(0.1), drivers.FloatValue(math.MaxFloat64), drivers.FloatValue(math.SmallestNonzeroFloat64),
		drivers.FloatValue(math.Copysign(0, -1)), drivers.FloatValue(3), drivers.FloatValue(math.NaN()),
		drivers.DecimalValue(math.MaxInt64, -18), drivers.DecimalValue(math.MinInt64, -9), drivers.DecimalValue(15, 2), drivers.DecimalValue(100, 18),
		drivers.TextValue(""), drivers.TextValue("客厅 \x00 \"quoted\""), drivers.TextValue("\xff"),
		parse(t, `{"a": [1, 18446744073709551615, 0.10]}`), parse(t, "[]"),
	} {
		got, err := codec.ValueFrom(travel(t, codec.ValueTo(v), &wire.Value{}))
		if err != nil {
			t.Errorf("%s: %v", v, err)
		}
		if !got.Equal(v) {
			t.Errorf("%s (kind %d) came as %s (kind %d)", v, v.Kind(), got, got.Kind())
		}
	}
}

func TestBadValuesAreRefused(t *testing.T) {
	for name, m := range map[string]*wire.Value{
		"exponent too large": {Kind: &wire.Value_Decimal{Decimal: &wire.Decimal{Coefficient: 1, Exponent: 19}}},
		"exponent too small": {Kind: &wire.Value_Decimal{Decimal: &wire.Decimal{Coefficient: 1, Exponent: -19}}},
		"not JSON":           {Kind: &wire.Value_Json{Json: []byte("{")}},
		"JSON of a number":   {Kind: &wire.Value_Json{Json: []byte("1")}},
	} {
		t.Run(name, func(t *testing.T) {
			if v, err := codec.ValueFrom(m); err == nil {
				t.Errorf("it came as %s", v)
			}
			rs := codec.ReadingsFrom([]*wire.Reading{{Point: "p", Value: m}})
			if rs[0].Quality != drivers.Bad || rs[0].Err == nil || !rs[0].Value.IsNull() {
				t.Errorf("the reading is %+v", rs[0])
			}
		})
	}
	// Milliseconds for seconds are a year that JSON cannot say.
	for _, seconds := range []int64{1700000000000, math.MaxInt64, math.MinInt64} {
		rs := codec.ReadingsFrom([]*wire.Reading{{Point: "p", Value: codec.ValueTo(drivers.IntValue(1)), Seconds: seconds}})
		if _, err := json.Marshal(rs[0].At); err != nil || rs[0].Quality != drivers.Bad || rs[0].Err == nil {
			t.Errorf("a reading at %d s is %+v: %v", seconds, rs[0], err)
		}
	}
	rs := codec.ReadingsFrom([]*wire.Reading{{Point: "p", Quality: 9}})
	if rs[0].Quality != drivers.Bad || rs[0].Err == nil {
		t.Errorf("a reading of quality 9 is %+v", rs[0])
	}
}

func TestReadingsAndPoints(t *testing.T) {
	at := time.Unix(1700000000, 123456789)
	readings := []drivers.Reading{
		{Point: "a", Value: drivers.IntValue(7), At: at},
		{Point: "b", Value: drivers.TextValue("old"), Quality: drivers.Stale, At: time.Unix(0, 0)},
		{Point: "c"},
	}
	got := codec.ReadingsFrom((&wire.ReadReply{Readings: codec.ReadingsTo(readings)}).GetReadings())
	if diff := cmp.Diff(readings, got, cmp.Comparer(drivers.Value.Equal)); diff != "" {
		t.Errorf("readings differ:\n%s", diff)
	}
	points := []drivers.Point{{Name: "a/b", Unit: "°C", Writable: true, Every: time.Minute, Deadband: 0.1, Longest: time.Hour}, {Name: "c"}, {
		Name: "d", Writable: true, Min: drivers.DecimalValue(-5, -1), Max: drivers.UintValue(math.MaxUint64), Step: drivers.IntValue(2), Confirm: true, History: true,
		Names: drivers.Names{{Value: drivers.IntValue(-1), Name: "off"}, {Value: drivers.BoolValue(false), Name: "on"}},
	}, {Name: "e", Flags: drivers.Flags{{Bit: 0, Name: "run"}, {Bit: 63, Name: "fault"}}}}
	if diff := cmp.Diff(points, codec.PointsFrom(codec.PointsTo(points))); diff != "" {
		t.Errorf("points differ:\n%s", diff)
	}
}

// A bound that cannot be read must not vanish.
func TestBadBoundsStay(t *testing.T) {
	bad := &wire.Value{Kind: &wire.Value_Decimal{Decimal: &wire.Decimal{Coefficient: 1, Exponent: 99}}}
	got := codec.PointsFrom([]*wire.Point{{
		Name: "p", Min: bad, Max: &wire.Value{}, Step: &wire.Value{Kind: &wire.Value_Text{Text: "x"}},
		Names: []*wire.Name{{Value: bad, Name: "n"}}, Flags: []*wire.Flag{{Bit: 1 << 20, Name: "f"}},
	}})[0]
	if got.Min.Kind() != drivers.Text || got.Step.Kind() != drivers.Text || got.Names[0].Value.Kind() != drivers.Text || got.Flags[0].Bit < drivers.MaxFlags {
		t.Errorf("it came as %+v", got)
	}
}

func sent(t *testing.T, err error) error {
	t.Helper()
	return codec.ErrorFrom(travel(t, codec.ErrorTo(err), &wire.Error{}))
}

func TestErrorsKeepTheirCauses(t *testing.T) {
	if err := codec.ErrorFrom(codec.ErrorTo(nil)); err != nil {
		t.Errorf("nil came as %v", err)
	}
	causes := []error{drivers.ErrUncertain, drivers.ErrLost, drivers.ErrConfig, context.Canceled, context.DeadlineExceeded}
	for i, cause := range causes {
		err := fmt.Errorf("cannot read %q: %w", "x", cause)
		got := sent(t, err)
		if got.Error() != err.Error() {
			t.Errorf("text %q came as %q", err, got)
		}
		for j, other := range causes {
			if errors.Is(got, other) != (i == j) {
				t.Errorf("%v is %v: %v", got, other, i != j)
			}
		}
	}
}

func TestConfigErrorsKeepTheirPlace(t *testing.T) {
	place := &drivers.ConfigError{File: "a.yaml", Line: 3, Column: 5, Msg: "unknown key", Snippet: "> 3 | x: 1\n      ^"}
	got := sent(t, place)
	if diff := cmp.Diff(error(place), got); diff != "" {
		t.Errorf("it came as:\n%s", diff)
	}
	two := fmt.Errorf("two things: %w", errors.Join(place, fmt.Errorf("and %w", &drivers.ConfigError{File: "a.yaml", Line: 9, Msg: "other"})))
	got = sent(t, two)
	var first *drivers.ConfigError
	if got.Error() != two.Error() || !errors.Is(got, drivers.ErrConfig) || !errors.As(got, &first) || *first != *place {
		t.Errorf("two errors came as %v", got)
	}
	var all []*drivers.ConfigError
	for _, cause := range got.(interface{ Unwrap() []error }).Unwrap() {
		if errors.As(cause, &first) {
			all = append(all, first)
		}
	}
	if len(all) != 2 || all[1].Line != 9 {
		t.Errorf("the places are %v", all)
	}
}

func TestLongAndBrokenTextsCanBeSent(t *testing.T) {
	got := sent(t, errors.New("\xff"+strings.Repeat("é", 1<<20))).Error()
	if len(got) > 20<<10 || !strings.HasPrefix(got, "\uFFFDéé") {
		t.Errorf("it came as %d bytes", len(got))
	}
}

func TestConfigKeepsPositions(t *testing.T) {
	cfg, err := drivers.ParseConfig("it", "dir/it.yaml", []byte("driver: x\nwrong: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := codec.ConfigFrom(travel(t, codec.ConfigTo(cfg), &wire.Config{}))
	if err != nil {
		t.Fatal(err)
	}
	want, have := cfg.Errorf("$.wrong", "no"), got.Errorf("$.wrong", "no")
	if want.Error() != have.Error() || !strings.HasPrefix(have.Error(), "dir/it.yaml:2:") {
		t.Errorf("%v became %v", want, have)
	}
}

// FuzzReply reads what a plugin might send: it never panics, and what can be read
// comes again when it is sent back.
func FuzzReply(f *testing.F) {
	for _, r := range []drivers.Reading{
		{Point: "a", Value: drivers.DecimalValue(225, -1), At: time.Unix(1700000000, 1)},
		{Point: "b", Value: drivers.TextValue("x"), Quality: drivers.Bad, Err: drivers.ErrLost},
	} {
		b, err := proto.Marshal(&wire.ReadReply{Readings: codec.ReadingsTo([]drivers.Reading{r}), Error: codec.ErrorTo(r.Err)})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var reply wire.ReadReply
		if proto.Unmarshal(b, &reply) != nil {
			return
		}
		if err := codec.ErrorFrom(reply.GetError()); err != nil {
			again := travel(t, codec.ErrorTo(err), &wire.Error{})
			if again.GetLost() != reply.GetError().GetLost() {
				t.Errorf("%v lost its cause", err)
			}
		}
		for _, r := range codec.ReadingsFrom(reply.GetReadings()) {
			again := codec.ReadingsFrom(codec.ReadingsTo([]drivers.Reading{r}))[0]
			if !again.Value.Equal(r.Value) || again.Quality != r.Quality || !again.At.Equal(r.At) {
				t.Errorf("%+v became %+v", r, again)
			}
		}
	})
}
