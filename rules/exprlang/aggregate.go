package exprlang

import (
	"math"
	"slices"
)

// Bounds of one window under one key.
const (
	maxWindowPoints = 1_000
	maxWindowPanes  = 240 // that a sliding time is divided into, if more points come
)

// aggregate is what is known of a number of points. Times are in milliseconds.
type aggregate struct {
	N       int     `json:"n"`
	Sum     float64 `json:"sum"`
	Min     float64 `json:"min"`
	Max     float64 `json:"max"`
	First   float64 `json:"first"`
	Last    float64 `json:"last"`
	FirstAt int64   `json:"from"`
	LastAt  int64   `json:"to"`
}

func (a *aggregate) add(v float64, at int64) {
	if a.N == 0 {
		*a = aggregate{Min: v, Max: v, First: v, FirstAt: at}
	}
	a.N++
	a.Sum += v
	a.Min, a.Max = min(a.Min, v), max(a.Max, v)
	a.Last, a.LastAt = v, at
}

// join adds what came after.
func (a *aggregate) join(b *aggregate) {
	switch {
	case b.N == 0:
	case a.N == 0:
		*a = *b
	default:
		a.N += b.N
		a.Sum += b.Sum
		a.Min, a.Max = min(a.Min, b.Min), max(a.Max, b.Max)
		a.Last, a.LastAt = b.Last, b.LastAt
	}
}

// value is the result of a function, nil where there is none.
func (a *aggregate) value(f windowFunction) any {
	switch {
	case f == fnCount && a.Sum <= math.MaxInt32:
		return int(a.Sum) // of ones and zeros
	case f == fnCount:
		return a.Sum
	case f == fnSum:
		return finite(a.Sum)
	case a.N == 0:
		return nil
	}
	switch f {
	case fnAvg:
		return finite(a.Sum / float64(a.N))
	case fnMin:
		return a.Min
	case fnMax:
		return a.Max
	case fnRate:
		if a.LastAt > a.FirstAt {
			return finite((a.Last - a.First) * 1000 / float64(a.LastAt-a.FirstAt))
		}
	case fnCount, fnSum, fnEMA, fnMedian:
	}
	return nil
}

func finite(v float64) any {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return v
}

// point is one value.
type point struct {
	at    int64
	value float64
}

// pane is what a window holds under one key.
type pane struct {
	points []point     // of last, and of medians
	panes  []aggregate // of over
	now    aggregate   // of every, per, and of all there was
	number int64       // of the time that now belongs to
	whole  aggregate   // the last whole one
	median any         // of it
	ema    float64
	seen   bool // there is an ema, or a whole one
	pieces kept
}

// push adds a value. at is the steady time, number that of the window of every.
func (w *window) push(p *pane, v float64, at, number int64) {
	switch w.extent {
	case extentLast:
		p.addPoint(v, at, w.points)
	case extentOver:
		w.slide(p, at)
		if w.function == fnMedian {
			p.addPoint(v, at, maxWindowPoints)
			return
		}
		if n := len(p.panes); n > 0 && at-p.panes[n-1].FirstAt < w.span/maxWindowPanes {
			p.panes[n-1].add(v, at)
			return
		}
		p.panes = append(p.panes, aggregate{})
		p.panes[len(p.panes)-1].add(v, at)
	case extentEvery:
		w.turn(p, number)
		w.collect(p, v, at)
	case extentPer:
		w.collect(p, v, at)
		if p.now.N >= w.points {
			w.close(p)
		}
	case extentAll:
		if w.function == fnEMA && p.seen {
			v = p.ema + w.alpha*(v-p.ema)
		}
		p.ema, p.seen = v, true
		p.now.add(v, at)
	}
}

func (p *pane) addPoint(v float64, at int64, most int) {
	if over := len(p.points) + 1 - most; over > 0 {
		p.points = slices.Delete(p.points, 0, over)
		p.pieces.first += int64(over)
	}
	p.points = append(p.points, point{at, v})
}

// collect adds to the window that is not whole yet.
func (w *window) collect(p *pane, v float64, at int64) {
	p.now.add(v, at)
	if w.function == fnMedian {
		p.addPoint(v, at, maxWindowPoints)
	}
}

// slide forgets what is too old.
func (w *window) slide(p *pane, at int64) {
	since := at - w.span
	for len(p.panes) > 0 && p.panes[0].LastAt <= since {
		p.panes = slices.Delete(p.panes, 0, 1)
		p.pieces.first++
	}
	if w.function == fnMedian {
		old := 0
		for old < len(p.points) && p.points[old].at <= since {
			old++
		}
		p.points = slices.Delete(p.points, 0, old)
		p.pieces.first += int64(old)
	}
}

// turn closes the window of every if another has begun.
func (w *window) turn(p *pane, number int64) {
	if p.number == number {
		return
	}
	if p.number+1 == number && p.number != 0 {
		w.close(p)
	} else { // there was none, or nothing came in the one before
		p.seen = p.number != 0 && p.number < number
		p.whole, p.median, p.now = aggregate{}, nil, aggregate{}
		p.dropPoints()
	}
	p.number = number
}

// close makes of the window at hand the last whole one.
func (w *window) close(p *pane) {
	if w.function == fnMedian {
		p.median = medianOf(p.points)
	}
	p.whole, p.now, p.seen = p.now, aggregate{}, true
	p.dropPoints()
}

func (p *pane) dropPoints() {
	p.pieces.first += int64(len(p.points))
	p.points = p.points[:0]
}

// value is the window's result at a time.
func (w *window) value(p *pane, at, number int64) any {
	var all aggregate
	switch w.extent {
	case extentLast:
		if w.function == fnMedian {
			return medianOf(p.points)
		}
		for i := range p.points {
			all.add(p.points[i].value, p.points[i].at)
		}
		return all.value(w.function)
	case extentOver:
		w.slide(p, at)
		if w.function == fnMedian {
			return medianOf(p.points)
		}
		for i := range p.panes {
			all.join(&p.panes[i])
		}
		return all.value(w.function)
	case extentEvery:
		w.turn(p, number)
		fallthrough
	case extentPer:
		switch {
		case !p.seen:
			return nil
		case w.function == fnMedian:
			return p.median
		}
		return p.whole.value(w.function)
	case extentAll:
		if w.function == fnEMA {
			if !p.seen {
				return nil
			}
			return p.ema
		}
		return p.now.value(w.function)
	}
	return nil
}

func medianOf(points []point) any {
	n := len(points)
	if n == 0 {
		return nil
	}
	var few [64]float64
	values := few[:0]
	for _, p := range points {
		values = append(values, p.value)
	}
	slices.Sort(values)
	if n%2 == 1 {
		return values[n/2]
	}
	return values[n/2-1]/2 + values[n/2]/2
}
