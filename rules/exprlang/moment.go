package exprlang

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/expr-lang/expr/ast"

	"github.com/gatehouse/gatehouse/rules/schedule"
)

// timeFields are what time has, by the clock of the rules' time zone.
var timeFields = []string{"hour", "minute", "second", "weekday", "day", "month", "year", "date", "unix"}

func (o *ownNames) timeField(e *evaluator, path []step) any {
	if len(path) == 0 {
		return nil
	}
	now := e.now.In(o.zone)
	switch path[0].key {
	case "hour":
		return now.Hour()
	case "minute":
		return now.Minute()
	case "second":
		return now.Second()
	case "weekday":
		return strings.ToLower(now.Weekday().String()[:3])
	case "day":
		return now.Day()
	case "month":
		return int(now.Month())
	case "year":
		return now.Year()
	case "date":
		return now.Format(time.DateOnly)
	case "unix":
		return float64(now.UnixMilli()) / 1000
	}
	return nil
}

// refraction is how far below the horizon the sun's middle is when its rim rises.
const refraction = -0.833

func (o *ownNames) sunField(e *evaluator, path []step) any {
	if len(path) == 0 || o.place == nil {
		return nil
	}
	elevation := schedule.Elevation(e.now, o.place.Latitude, o.place.Longitude)
	switch path[0].key {
	case "up":
		return elevation > refraction
	case "elevation":
		return elevation
	}
	return nil
}

// betweenCall is between("22:00", "06:00"): the first belongs to it, the second does
// not, and midnight may lie in it.
func (c *compilation) betweenCall(n *ast.CallNode) (string, *refusal) {
	if len(n.Arguments) != 2 {
		return "", refuse(n, "between wants two times: between(\"22:00\", \"06:00\")")
	}
	var ends [2]int
	for i, arg := range n.Arguments {
		text, ok := literalText(arg)
		if !ok {
			return "", refuse(arg, "between wants a time in quotes, such as \"22:00\"")
		}
		hour, minute, second, err := schedule.Clock(text)
		if err != nil {
			return "", refuse(arg, "%v", err)
		}
		ends[i] = hour*3600 + minute*60 + second
	}
	from, to := ends[0], ends[1]
	if from == to {
		return "", refuse(n, "between wants two times that are not the same")
	}
	zone := c.table.own.zone
	name := slotName("between(%d, %d)", from, to)
	c.table.add1(name, func(e *evaluator, _ []step) any {
		hour, minute, second := e.now.In(zone).Clock()
		s := hour*3600 + minute*60 + second
		if from < to {
			return from <= s && s < to
		}
		return from <= s || s < to
	})
	c.table.slots[c.table.index[name]].told = n.String()
	return name, nil
}

// sunCall is sunrise() or sunset(): that of the day, nil where there is none.
func (c *compilation) sunCall(n *ast.CallNode, word string) (string, *refusal) {
	own := c.table.own
	switch {
	case len(n.Arguments) > 0:
		return "", refuse(n, "%s() takes no arguments", word)
	case own.place == nil:
		return "", refuse(n, "%v", errNoPlace)
	}
	sun, err := schedule.Sun(word, own.place.Latitude, own.place.Longitude, own.zone)
	if err != nil {
		return "", refuse(n, "%v", err)
	}
	type found struct{ midnight, at time.Time }
	var last atomic.Pointer[found]
	name := slotName("%s()", word)
	c.table.add1(name, func(e *evaluator, _ []step) any {
		year, month, day := e.now.In(own.zone).Date()
		midnight := time.Date(year, month, day, 0, 0, 0, 0, own.zone)
		f := last.Load()
		if f == nil || !f.midnight.Equal(midnight) {
			f = &found{midnight: midnight, at: sun.Next(midnight.Add(-time.Nanosecond))}
			last.Store(f)
		}
		if f.at.IsZero() || !f.at.Before(midnight.AddDate(0, 0, 1)) {
			return nil
		}
		return f.at
	})
	return name, nil
}
