// Package schedule reads the times at which rules run: every so often, by a cron
// expression, at times of the day, and at the sun's rising and setting. What it
// returns are values of rules.Schedule, for any rule language.
//
//	s, err := schedule.Cron("*/5 7-19 * * mon-fri", time.Local)
//	next := s.Next(time.Now())
//
// Times of the day are those of a time zone, so that they go with its summer time. One
// that a day does not have, because clocks are put forward then, is that much later, and
// one that it has twice comes once; so does a cron expression that names its hours.
package schedule
