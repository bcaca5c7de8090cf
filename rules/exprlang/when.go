package exprlang

import (
	"errors"

	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/schedule"
)

// maxSchedules is how many times of one kind a rule may have.
const maxSchedules = 100

var errNoPlace = errors.New("the sun needs to know where it is: set rules.place in the configuration")

// schedules reads one schedule of a kind, or a list of them.
func (f *ruleFile) schedules(p pair) []rules.Schedule {
	nodes := f.oneOrMore(p.value, "times")
	if len(nodes) > maxSchedules {
		f.errorf(p.at, "%d times are more than %d", len(nodes), maxSchedules)
		return nil
	}
	var all []rules.Schedule
	for _, node := range nodes {
		s, ok := f.scalar(node, "a time")
		if !ok {
			continue
		}
		one, err := f.schedule(p.key, s.value)
		if err != nil {
			f.errorf(f.start(node), "%v", err)
			continue
		}
		all = append(all, one)
	}
	return all
}

func (f *ruleFile) schedule(kind, text string) (rules.Schedule, error) {
	switch {
	case kind == "every":
		return schedule.Every(text)
	case kind == "cron":
		return schedule.Cron(text, f.zone)
	case kind == "at":
		return schedule.At(text, f.zone)
	case f.place == nil:
		return nil, errNoPlace
	default:
		return schedule.Sun(text, f.place.Latitude, f.place.Longitude, f.zone)
	}
}
