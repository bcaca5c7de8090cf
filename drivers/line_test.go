package drivers_test

import (
	"testing"

	"github.com/gatehouse/gatehouse/drivers"
)

// lined is a driver whose devices all share one line, and counts what it judges.
type lined struct {
	*fake
	checks int
}

func (l *lined) Check(cfg drivers.Config) ([]drivers.Point, error) {
	l.checks++
	return l.fake.Check(cfg)
}

func (l *lined) Forecast(files []drivers.Config) []drivers.Line {
	line := drivers.Line{Name: "line", Asked: 10 * float64(len(files))}
	for _, f := range files {
		line.Devices = append(line.Devices, f.Device)
	}
	return []drivers.Line{line}
}

func (l *lined) Busy(string) (float64, bool) { return 0, false }

// Files of ten thousand points take seconds: what was judged is not judged again, and what
// has changed is.
func TestForecastJudgesWhatCheckHasNot(t *testing.T) {
	driver := &lined{fake: &fake{}}
	host, err := drivers.NewHost(drivers.Options{Drivers: map[string]drivers.Driver{"fake": driver}})
	if err != nil {
		t.Fatal(err)
	}
	before := folder(files("a.yaml", device("", "x"), "b.yaml", device("", "x")))
	if err := host.Check(t.Context(), before); err != nil || driver.checks != 2 {
		t.Fatalf("want two files judged, got %d, %v", driver.checks, err)
	}
	for _, c := range []struct {
		files  map[string]string
		checks int
		asked  float64
	}{
		{files: files("a.yaml", device("", "x"), "b.yaml", device("", "x")), checks: 2, asked: 20},
		{files: files("a.yaml", device("", "x", "y")), checks: 3, asked: 10},
	} {
		lines, err := host.Forecast(t.Context(), folder(c.files))
		if err != nil || len(lines) != 1 || lines[0].Asked != c.asked || driver.checks != c.checks {
			t.Errorf("want %d files judged and %v %%, got %d and %v (%v)", c.checks, c.asked, driver.checks, lines, err)
		}
	}
}
