package exposition

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The types of metric families, as the text says them.
const (
	counter   = "counter"
	gauge     = "gauge"
	histogram = "histogram"
	summary   = "summary"
)

// Page is what one scrape shows. The zero value is empty. One goroutine fills it.
//
// Labels are names and values in turn. Names of metrics and labels are constants, which
// nobody checks; a value may be any text. Of two samples that have the same name and
// labels the first counts.
type Page struct {
	families map[string]*family
}

// family is a metric family: the samples of one name.
type family struct {
	name, help, kind string
	metrics          []metric
}

// metric is what one set of labels has to say: one sample, or those of a histogram.
type metric struct {
	labels  string // as the text has them, without braces; by name
	samples []sample
}

type sample struct {
	suffix string // of the family's name
	label  string // one more, as the text has it; "" is none
	value  float64
}

// Bucket is a bucket of a histogram: how many observations were at most Most.
type Bucket struct {
	Most  float64
	Count uint64
}

// Gauge shows a number that goes up and down.
func (p *Page) Gauge(name, help string, value float64, labels ...string) {
	p.add(gauge, name, help, labels, sample{value: value})
}

// Counter shows a number that only goes up, from 0 when the program starts.
func (p *Page) Counter(name, help string, value float64, labels ...string) {
	p.add(counter, name, help, labels, sample{value: value})
}

// Histogram shows how observations are spread: how many there were, their sum, and
// buckets, the lowest first, each with those below it; the last one, of all, is added.
func (p *Page) Histogram(name, help string, count uint64, sum float64, buckets []Bucket, labels ...string) {
	var samples []sample
	for _, b := range append(slices.Clip(buckets), Bucket{math.Inf(1), count}) {
		samples = append(samples, sample{"_bucket", `le="` + number(b.Most) + `"`, float64(b.Count)})
	}
	p.add(histogram, name, help, labels, append(samples, sample{suffix: "_sum", value: sum}, sample{suffix: "_count", value: float64(count)})...)
}

func (p *Page) add(kind, name, help string, labels []string, samples ...sample) {
	f := p.families[name]
	if f == nil {
		if p.families == nil {
			p.families = make(map[string]*family)
		}
		f = &family{name: name, help: help, kind: kind}
		p.families[name] = f
	}
	f.metrics = append(f.metrics, metric{labelsOf(labels), samples})
}

var escapeValue = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// labelsOf writes labels by name. The name of a file, say, need not be UTF-8, which the
// text is.
func labelsOf(labels []string) string {
	pairs := make([]string, 0, len(labels)/2)
	for pair := range slices.Chunk(labels, 2) {
		value := pair[1]
		if !utf8.ValidString(value) {
			value = strings.Trim(strconv.Quote(value), `"`)
		}
		pairs = append(pairs, pair[0]+`="`+escapeValue.Replace(value)+`"`)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

// number writes a value. The format takes what strconv makes of infinities and NaN.
func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// Append appends the page to b: families by name, and of each what there is by labels.
// With names only those families are shown.
func (p *Page) Append(b []byte, names ...string) []byte {
	all := make([]*family, 0, len(p.families))
	for _, f := range p.families {
		if len(names) == 0 || slices.Contains(names, f.name) {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b *family) int { return cmp.Compare(a.name, b.name) })
	for _, f := range all {
		b = f.append(b)
	}
	return b
}

var escapeHelp = strings.NewReplacer(`\`, `\\`, "\n", `\n`)

func (f *family) append(b []byte) []byte {
	b = append(b, "# HELP "+f.name+" "+escapeHelp.Replace(f.help)+"\n# TYPE "+f.name+" "+f.kind+"\n"...)
	slices.SortStableFunc(f.metrics, func(a, b metric) int { return cmp.Compare(a.labels, b.labels) })
	for _, m := range slices.CompactFunc(f.metrics, func(a, b metric) bool { return a.labels == b.labels }) {
		for _, s := range m.samples {
			b = append(append(b, f.name...), s.suffix...)
			if labels := strings.Trim(m.labels+","+s.label, ","); labels != "" {
				b = append(b, "{"+labels+"}"...)
			}
			b = append(append(append(b, ' '), number(s.value)...), '\n')
		}
	}
	return b
}
