package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Shortest is the least that [Every] takes.
const Shortest = 100 * time.Millisecond

// Interval is a schedule that is due so long after it was due before, by the
// monotonic clock.
type Interval time.Duration

// Every reads a duration of at least [Shortest], such as "10s".
func Every(text string) (Interval, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 10s, 5m or 1h30m", text)
	}
	if d < Shortest {
		return 0, fmt.Errorf("%v is less than %v", d, Shortest)
	}
	return Interval(d), nil
}

// Next is the time after it.
func (i Interval) Next(after time.Time) time.Time { return after.Add(time.Duration(i)) }

// Monotonic says that the schedule does not mind what the wall clock says.
func (i Interval) Monotonic() {}

// String is "every" and the duration.
func (i Interval) String() string { return "every " + time.Duration(i).String() }

// Wall is a schedule by the wall clock.
type Wall struct {
	text string
	next func(after time.Time) time.Time
}

// Next is the first time after one; the zero time if there is none.
func (w *Wall) Next(after time.Time) time.Time { return w.next(after.Round(0)) }

// String is what it was made of.
func (w *Wall) String() string { return w.text }

// Cron reads an expression of cron(5) with five fields, or six of which the first is
// seconds, or a word such as "@daily".
func Cron(text string, zone *time.Location) (*Wall, error) {
	if strings.Contains(text, "TZ=") {
		return nil, errors.New("the time zone is that of the configuration")
	}
	if strings.HasPrefix(text, "@every") {
		return nil, errors.New(`"@every" is the key "every"`)
	}
	parser := cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)
	parsed, err := parser.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%q is not a cron expression (minute, hour, day, month, weekday): %w", text, err)
	}
	w := &Wall{text: "cron " + text, next: func(after time.Time) time.Time { return parsed.Next(after.In(zone)) }}
	if spec, ok := parsed.(*cron.SpecSchedule); ok && spec.Hour&everyHour == 0 {
		w.next = func(after time.Time) time.Time { return onTheDial(parsed, after.In(zone)) }
	}
	if w.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("%q is never due", text)
	}
	return w, nil
}

// everyHour is the bit by which the parser says that the hours are "*".
const everyHour = 1 << 63

// onTheDial is the next time of a schedule that names its hours, after one in its zone.
// They are looked for on a dial that knows no summer time, so that one in the hour that
// is left out comes, and one in the hour that is there twice comes once.
func onTheDial(s cron.Schedule, after time.Time) time.Time {
	shown := func(t time.Time, zone *time.Location) time.Time {
		return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, zone)
	}
	from := shown(after, time.UTC)
	_, offset := after.Zone()
	if _, before := after.Add(-time.Hour).Zone(); offset > before { // what was left out comes now
		from = from.Add(-time.Hour)
	}
	for next := s.Next(from); !next.IsZero(); next = s.Next(next) {
		if t := shown(next, after.Location()); t.After(after) {
			return t
		}
	}
	return time.Time{}
}

// Clock reads a time of the day, "07:30" or "07:30:15".
func Clock(text string) (hour, minute, second int, err error) {
	at, err := time.Parse("15:04", text)
	if err != nil {
		if at, err = time.Parse("15:04:05", text); err != nil {
			return 0, 0, 0, fmt.Errorf("%q is not a time of the day such as \"07:30\"", text)
		}
	}
	hour, minute, second = at.Clock()
	return hour, minute, second, nil
}

// At reads a time of the day, as [Clock] does.
func At(text string, zone *time.Location) (*Wall, error) {
	hour, minute, second, err := Clock(text)
	if err != nil {
		return nil, err
	}
	return &Wall{text: "at " + text, next: func(after time.Time) time.Time {
		return daily(after.In(zone), func(year int, month time.Month, day int) (time.Time, bool) {
			return time.Date(year, month, day, hour, minute, second, 0, zone), true
		})
	}}, nil
}

// daily is the first time after one of those that each day has.
func daily(after time.Time, of func(year int, month time.Month, day int) (time.Time, bool)) time.Time {
	year, month, day := after.Date()
	for i := -2; i <= 400; i++ { // where the sun does not set for months, it does within a year
		if t, ok := of(year, month, day+i); ok && t.After(after) {
			return t
		}
	}
	return time.Time{}
}

// Sun reads "sunrise", "sunset", "dawn" or "dusk" (civil twilight), with an offset if
// wanted: "sunset - 30m". Latitude is in degrees north, longitude in degrees east.
func Sun(text string, latitude, longitude float64, zone *time.Location) (*Wall, error) {
	word, offset, err := splitOffset(text)
	if err != nil {
		return nil, err
	}
	event, ok := events[word]
	if !ok {
		return nil, fmt.Errorf("%q is none of sunrise, sunset, dawn and dusk, with an offset such as \"sunset - 30m\"", text)
	}
	return &Wall{text: text, next: func(after time.Time) time.Time {
		return daily(after.In(zone), func(year int, month time.Month, day int) (time.Time, bool) {
			t, ok := event.on(time.Date(year, month, day, 0, 0, 0, 0, time.UTC), latitude, longitude)
			return t.Add(offset).In(zone), ok
		})
	}}, nil
}

// longestOffset keeps an event on the day it belongs to, or beside it.
const longestOffset = 12 * time.Hour

func splitOffset(text string) (word string, offset time.Duration, err error) {
	at := strings.IndexAny(text, "+-")
	if at < 0 {
		return strings.TrimSpace(text), 0, nil
	}
	offset, err = time.ParseDuration(text[at:at+1] + strings.TrimSpace(text[at+1:]))
	if err != nil || offset < -longestOffset || offset > longestOffset {
		return "", 0, fmt.Errorf("%q is not an offset of at most 12h, such as \"- 30m\"", text[at:])
	}
	return strings.TrimSpace(text[:at]), offset, nil
}
