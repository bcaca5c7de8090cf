package exprlang_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
)

func TestTimeInExpressions(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skipf("no time zones here: %v", err)
	}
	place := &rules.Place{Latitude: 52.52, Longitude: 13.40}
	for _, c := range []struct{ at, condition, want string }{
		{"2026-11-22 12:34:56", `time.hour == 12 && time.minute == 34 && time.second == 56`, "yes"},
		{"2026-11-22 12:34:56", `time.weekday == "sun" && time.day == 22 && time.month == 11 && time.year == 2026`, "yes"},
		{"2026-11-22 12:34:56", `time.date == "2026-11-22"`, "yes"},
		{"2026-11-22 12:34:56", `time.unix == 1795347296`, "yes"},
		{"2026-11-22 12:34:56", `time.weekday in ["sat", "sun"]`, "yes"},
		{"2026-11-22 12:34:56", `now().Hour() == 12`, "yes"},
		{"2026-11-22 22:00:00", `between("22:00", "06:00")`, "yes"},
		{"2026-11-22 21:59:59", `between("22:00", "06:00")`, "no"},
		{"2026-11-23 05:59:59", `between("22:00", "06:00")`, "yes"},
		{"2026-11-23 06:00:00", `between("22:00", "06:00")`, "no"},
		{"2026-11-23 06:00:00", `between("06:00", "06:00:01")`, "yes"},
		{"2026-11-23 06:00:01", `between("06:00", "06:00:01")`, "no"},
		{"2026-11-23 12:00:00", `not between("22:00", "06:00") && between("11:00", "13:00")`, "yes"},
		{"2026-06-21 13:10:00", `sun.up && sun.elevation > 60.8 && sun.elevation < 61`, "yes"},
		{"2026-06-21 01:10:00", `sun.up`, "no"},
		{"2026-06-21 01:10:00", `sun.elevation < -13.9 && sun.elevation > -14.2`, "yes"},
		{"2026-11-22 07:30:00", `now() > sunrise()`, "no"},
		{"2026-11-22 07:45:00", `now() > sunrise() && now() < sunset() - duration("30m")`, "yes"},
		{"2026-11-22 16:10:00", `now() > sunset()`, "yes"},
		{"2026-11-22 23:59:59", `sunrise().Hour() == 7 && sunset().Hour() == 16 && sunset().Day() == 22`, "yes"},
		{"2026-11-23 00:00:00", `sunrise().Day() == 23`, "yes"},
	} {
		t.Run(c.condition, func(t *testing.T) {
			p, err := exprlang.New().Compile(t.Context(), rules.Source{Name: "t.yaml", Text: []byte(ruleIf(c.condition)), Place: place, Zone: berlin})
			if err != nil {
				t.Fatal(err)
			}
			now, err := time.ParseInLocation(time.DateTime, c.at, berlin)
			if err != nil {
				t.Fatal(err)
			}
			out := p.Run(t.Context(), []rules.Call{{Message: &message.Message{Topic: "a"}, Now: now.UTC()}})[0]
			if got := verdict(out); got != c.want {
				t.Errorf("at %s it came to %q (%v), want %q", c.at, got, out.Err, c.want)
			}
		})
	}
}

// Where the sun does not set, there is no sunset.
func TestNoSunset(t *testing.T) {
	p, err := exprlang.New().Compile(t.Context(), rules.Source{
		Name: "t.yaml", Text: []byte(ruleIf("sunset() == nil && sunrise() == nil && sun.up")), Place: &rules.Place{Latitude: 70, Longitude: 20}, Zone: time.UTC,
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 6, 21, 0, 0, 0, 0, time.UTC)
	if out := p.Run(t.Context(), []rules.Call{{Message: &message.Message{Topic: "a"}, Now: now}})[0]; !out.Fired {
		t.Errorf("it came to %+v", out)
	}
}

func TestRefusedTimes(t *testing.T) {
	for condition, want := range map[string]string{
		`time == 5`:                      "5:7: time wants a field: hour, minute",
		`time.hours == 5`:                `5:12: time has no "hours"`,
		`time[payload.x] == 5`:           "time wants a field",
		`sun.up`:                         "set rules.place in the configuration",
		`now() > sunrise()`:              "set rules.place in the configuration",
		`sunset(1) == nil`:               "sunset() takes no arguments",
		`between("22:00")`:               "between wants two times",
		`between("22:00", "22:00")`:      "two times that are not the same",
		`between("22:00", "25:00")`:      `5:24: "25:00" is not a time of the day`,
		`between(payload.from, "06:00")`: "between wants a time in quotes",
		`time.hour()`:                    "has no functions",
	} {
		if _, err := compileOnly(ruleIf(condition)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", condition, err, want)
		}
	}
}
