package drivers_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// Whatever a key is called, what is wrong with it has its place.
func TestConfigFindsPlaces(t *testing.T) {
	const file = `driver: fake
init: [a, b]
points:
  it's: {words: {on: 1}}
  'back\slash\': {words: {on: 1}}
  a.b[0]: {words: {on: 1}}
  $: {words: {on: 1}}
  "": {words: {on: 1}}
  °C: {words: {on: 1}}
`
	cfg, err := drivers.ParseConfig("d", "d.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"it's", `back\slash\`, "a.b[0]", "$", "", "°C"}
	if got := cfg.Keys("$.points"); !slices.Equal(got, names) {
		t.Errorf("want %q, got %q", names, got)
	}
	place := func(path string) [2]int {
		var at *drivers.ConfigError
		if err := cfg.Errorf(path, "x"); !errors.As(err, &at) {
			t.Fatalf("want a *drivers.ConfigError, got %v", err)
		}
		return [2]int{at.Line, at.Column}
	}
	for i, name := range names {
		if got := cfg.Keys(drivers.PointPath(name, "words")); !slices.Equal(got, []string{"on"}) {
			t.Errorf("want the words of %q, got %q", name, got)
		}
		if got := place(drivers.PointPath(name, "words")); got[0] != 4+i || got[1] < 6 {
			t.Errorf("want the words of %q in line %d, got %v", name, 4+i, got)
		}
		if got := place(drivers.PointPath(name, "every")); got[0] != 4+i {
			t.Errorf("want %q for a key that it has not, line %d, got %v", name, 4+i, got)
		}
	}
	for path, want := range map[string][2]int{
		"$": {1, 1}, "$.driver": {1, 9}, "$.init[1]": {2, 11}, "$.init[2]": {2, 7}, "$.init.x": {2, 7}, "$.none.x": {1, 1}, "$.points": {4, 3},
	} {
		if got := place(path); got != want {
			t.Errorf("want %s at %v, got %v", path, want, got)
		}
	}
}

// Editors of Windows begin a file with a mark.
func TestConfigBeginsWithAByteOrderMark(t *testing.T) {
	cfg, err := drivers.ParseConfig("d", "d.yaml", []byte("\ufeffdriver: fake\r\npoints: {a: {}}\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	common, err := cfg.Common()
	if err != nil || common.Driver != "fake" {
		t.Errorf("want the driver fake, got %+v, %v", common, err)
	}
}

// What is wrong is said in the words of files.
func TestConfigSaysWhatAValueMustBe(t *testing.T) {
	for text, want := range map[string]string{
		"points: 5\n":                  "d.yaml:1:9: this must be a mapping",
		"points: [a]\n":                "d.yaml:1:9: this must be a mapping",
		"points: {a: 5}\n":             "d.yaml:1:13: this must be a mapping",
		"discovery: homeassistant\n":   "d.yaml:1:12: this must be a list",
		"discovery: {a: 1}\n":          "d.yaml:1:12: this must be a list",
		"together: 5\n":                "d.yaml:1:11: this must be true or false",
		"- driver: fake\n":             "d.yaml:1:1: this must be a mapping",
		"every: soon\n":                "d.yaml:1:8: ",
		"points: {a: {every: [1s]}}\n": `d.yaml:1:21: this must be a duration such as "500ms" or "5s"`,
	} {
		cfg, err := drivers.ParseConfig("d", "d.yaml", []byte(text))
		if err == nil {
			err = cfg.Decode(&fakeFile{})
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: want %s, got %v", text, want, err)
		}
	}
}

// A file is parsed once; the driver, the host and who records decode what was parsed, each
// in its time.
func TestConfigIsDecodedByManyAtOnce(t *testing.T) {
	cfg, err := drivers.ParseConfig("d", "d.yaml", []byte(device("every: 2s", "a: {every: 3s}", "b")))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20 {
				var f fakeFile
				if err := cfg.Decode(&f); err != nil || f.Every != 2*time.Second || f.Points["a"].Every != 3*time.Second || len(f.Points) != 2 {
					t.Errorf("%+v, %v", f, err)
				}
				common, err := cfg.Common()
				if err != nil || common.Driver != "fake" || common.Every != 2*time.Second {
					t.Errorf("%+v, %v", common, err)
				}
			}
		})
	}
	all.Wait()
}
