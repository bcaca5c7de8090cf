package schedule_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/rules/schedule"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Skipf("no time zones here: %v", err)
	}
	return z
}

func at(t *testing.T, z *time.Location, text string) time.Time {
	t.Helper()
	got, err := time.ParseInLocation("2006-01-02 15:04:05", text, z)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestNext(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	type next interface{ Next(time.Time) time.Time }
	must := func(s next, err error) next {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	daily := must(schedule.At("07:30", berlin))
	gap := must(schedule.At("02:30", berlin))
	workdays := must(schedule.Cron("*/15 7-9 * * mon-fri", berlin))
	seconds := must(schedule.Cron("30 0 12 * * *", berlin))
	nightly := must(schedule.Cron("30 2 * * *", berlin))
	quarters := must(schedule.Cron("*/15 2-3 * * *", berlin))
	quarter := must(schedule.Cron("*/15 2 * * *", berlin))
	hourly := must(schedule.Cron("30 * * * *", berlin))
	for name, c := range map[string]struct {
		s           next
		after, want string
	}{
		"cron, a time that the day does not have": {nightly, "2026-03-28 03:00:00", "2026-03-29 03:30:00"},
		"cron, the day after that":                {nightly, "2026-03-29 03:30:00", "2026-03-30 02:30:00"},
		"cron, hours one of which is not there":   {quarters, "2026-03-29 03:45:00", "2026-03-30 02:00:00"},
		"cron, the quarters of that hour":         {quarter, "2026-03-29 03:00:00", "2026-03-29 03:15:00"},
		"cron, each hour but that":                {hourly, "2026-03-29 01:30:00", "2026-03-29 03:30:00"},
		"later that day":                          {daily, "2026-05-01 07:29:59", "2026-05-01 07:30:00"},
		"not the same moment again":               {daily, "2026-05-01 07:30:00", "2026-05-02 07:30:00"},
		"in summer time too":                      {daily, "2026-03-28 08:00:00", "2026-03-29 07:30:00"},
		"a time that the day does not have":       {gap, "2026-03-28 03:00:00", "2026-03-29 03:30:00"},
		"the day after that":                      {gap, "2026-03-29 03:30:00", "2026-03-30 02:30:00"},
		"cron, on the next workday":               {workdays, "2026-05-01 09:45:00", "2026-05-04 07:00:00"},
		"cron, a quarter of an hour later":        {workdays, "2026-05-04 07:00:00", "2026-05-04 07:15:00"},
		"cron with seconds":                       {seconds, "2026-05-04 07:00:00", "2026-05-04 12:00:30"},
		"the last day of the year":                {daily, "2026-12-31 12:00:00", "2027-01-01 07:30:00"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, want := c.s.Next(at(t, berlin, c.after)), at(t, berlin, c.want); !got.Equal(want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	for s, want := range map[next]int{nightly: 1, hourly: 25} { // clocks are put back
		n := 0
		for next := s.Next(at(t, berlin, "2026-10-25 00:00:00")); next.Before(at(t, berlin, "2026-10-26 00:00:00")); next = s.Next(next) {
			n++
		}
		if n != want {
			t.Errorf("%v comes %d times on a day of 25 hours, want %d", s, n, want)
		}
	}
	if every := must(schedule.Every("90s")); !every.Next(at(t, berlin, "2026-05-01 00:00:00")).Equal(at(t, berlin, "2026-05-01 00:01:30")) {
		t.Error("every 90s is wrong")
	}
}

// The almanacs' times, to two minutes.
func TestSun(t *testing.T) {
	for _, c := range []struct {
		place               string
		latitude, longitude float64
		zone, word, after   string
		want                string
	}{
		{"London in winter", 51.51, -0.13, "Europe/London", "sunrise", "2024-12-21 00:00:00", "2024-12-21 08:04:00"},
		{"London in winter", 51.51, -0.13, "Europe/London", "sunset", "2024-12-21 00:00:00", "2024-12-21 15:53:00"},
		{"Berlin in summer", 52.52, 13.40, "Europe/Berlin", "sunrise", "2026-06-21 00:00:00", "2026-06-21 04:43:00"},
		{"Berlin in summer", 52.52, 13.40, "Europe/Berlin", "sunset", "2026-06-21 00:00:00", "2026-06-21 21:33:00"},
		{"New York", 40.71, -74.01, "America/New_York", "sunrise", "2024-07-04 00:00:00", "2024-07-04 05:29:00"},
		{"New York", 40.71, -74.01, "America/New_York", "sunset", "2024-07-04 00:00:00", "2024-07-04 20:31:00"},
		{"Sydney", -33.87, 151.21, "Australia/Sydney", "sunrise", "2024-01-01 00:00:00", "2024-01-01 05:48:00"},
		{"Sydney", -33.87, 151.21, "Australia/Sydney", "sunset", "2024-01-01 00:00:00", "2024-01-01 20:09:00"},
		{"with an offset", 52.52, 13.40, "Europe/Berlin", "sunset - 1h30m", "2026-06-21 00:00:00", "2026-06-21 20:03:00"},
		{"the day after", 52.52, 13.40, "Europe/Berlin", "sunset+10m", "2026-06-21 21:50:00", "2026-06-22 21:43:00"},
		{"dusk", 51.51, -0.13, "Europe/London", "dusk", "2024-12-21 00:00:00", "2024-12-21 16:33:00"},
	} {
		t.Run(c.place+", "+c.word, func(t *testing.T) {
			z := zone(t, c.zone)
			s, err := schedule.Sun(c.word, c.latitude, c.longitude, z)
			if err != nil {
				t.Fatal(err)
			}
			got, want := s.Next(at(t, z, c.after)), at(t, z, c.want)
			if off := got.Sub(want).Abs(); off > 2*time.Minute {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	t.Run("a polar night ends", func(t *testing.T) {
		z := zone(t, "Europe/Oslo")
		s, err := schedule.Sun("sunrise", 69.65, 18.96, z) // Tromsø
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Next(at(t, z, "2024-12-01 00:00:00")); got.Before(at(t, z, "2025-01-10 00:00:00")) || got.After(at(t, z, "2025-01-20 00:00:00")) {
			t.Errorf("got %v", got)
		}
	})
	t.Run("each day once, all over the world", func(t *testing.T) {
		for longitude := -180.0; longitude <= 180; longitude += 15 {
			for _, name := range []string{"UTC", "Pacific/Auckland", "Pacific/Honolulu"} {
				z := zone(t, name)
				s, err := schedule.Sun("sunset", 10, longitude, z)
				if err != nil {
					t.Fatal(err)
				}
				now := at(t, z, "2026-01-01 00:00:00")
				for range 400 {
					next := s.Next(now)
					if gap := next.Sub(now); gap <= 0 || gap > 24*time.Hour+10*time.Minute || now.Year() > 2026 && gap < 23*time.Hour {
						t.Fatalf("longitude %v in %s: %v after %v", longitude, name, gap, now)
					}
					now = next
				}
			}
		}
	})
}

func TestWhatIsRefused(t *testing.T) {
	parse := map[string]func(string) error{
		"every": func(s string) error { _, err := schedule.Every(s); return err },
		"cron":  func(s string) error { _, err := schedule.Cron(s, time.UTC); return err },
		"at":    func(s string) error { _, err := schedule.At(s, time.UTC); return err },
		"sun":   func(s string) error { _, err := schedule.Sun(s, 50, 10, time.UTC); return err },
	}
	for _, c := range []struct{ kind, text, want string }{
		{"every", "10", "not a duration"},
		{"every", "50ms", "less than"},
		{"every", "-1s", "less than"},
		{"cron", "* * *", "not a cron expression"},
		{"cron", "61 * * * *", "not a cron"},
		{"cron", "0 0 31 2 *", "never due"},
		{"cron", "CRON_TZ=UTC 0 0 * * *", "time zone"},
		{"cron", "@every 1s", "every"},
		{"cron", "", "not a cron"},
		{"at", "7:60", "time of the day"},
		{"at", "25:00", "time of the day"},
		{"at", "noon", "time of the day"},
		{"sun", "moonrise", "none of"},
		{"sun", "sunset - 13h", "offset"},
		{"sun", "sunset - x", "offset"},
		{"sun", "", "none of"},
	} {
		if err := parse[c.kind](c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q: got %v, want %q in it", c.kind, c.text, err, c.want)
		}
	}
}

func FuzzSchedules(f *testing.F) {
	for _, text := range []string{"10s", "*/5 * * * *", "@daily", "07:30", "sunset - 30m", "0 0 29 2 *", "0-59/0 * * * *"} {
		f.Add(text)
	}
	now := time.Date(2026, 3, 29, 1, 59, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 200 {
			return
		}
		if s, err := schedule.Every(text); err == nil && !s.Next(now).After(now) {
			t.Errorf("every %q is due at %v", text, s.Next(now))
		}
		for _, parse := range []func(string) (*schedule.Wall, error){
			func(s string) (*schedule.Wall, error) { return schedule.Cron(s, time.UTC) },
			func(s string) (*schedule.Wall, error) { return schedule.At(s, time.UTC) },
			func(s string) (*schedule.Wall, error) { return schedule.Sun(s, 50, 10, time.UTC) },
		} {
			if s, err := parse(text); err == nil {
				if next := s.Next(now); !next.IsZero() && !next.After(now) {
					t.Errorf("%q is due at %v", text, next)
				}
			}
		}
	})
}
