package jsvm

import (
	"maps"
	"slices"

	"github.com/gatehouse/gatehouse/rules"
)

// kept writes what a timer or a request was given.
func (w *encoder) kept(c *callRecord) {
	w.text(c.Timer)
	w.text(c.Name)
	w.bytes(c.Data)
}

func (r *decoder) kept(c *callRecord) { c.Timer, c.Name, c.Data = r.text(), r.text(), r.bytes() }

func (w *encoder) header(h map[string]string) {
	w.count(len(h))
	for _, key := range slices.Sorted(maps.Keys(h)) {
		w.text(key)
		w.text(h[key])
	}
}

func (r *decoder) header() map[string]string {
	n := r.count(2)
	if n == 0 {
		return nil
	}
	h := make(map[string]string, n)
	for range n {
		key := r.text()
		h[key] = r.text()
	}
	return h
}

func (w *encoder) reply(p *rules.Reply) {
	w.count(p.Status)
	w.header(p.Header)
	w.bytes(p.Body)
	w.text(p.Err)
}

func (r *decoder) reply(p *rules.Reply) {
	p.Status, p.Header, p.Body, p.Err = r.small(), r.header(), r.bytes(), r.text()
}

func (w *encoder) requests(list []rules.Request) {
	w.count(len(list))
	for i := range list {
		q := &list[i]
		w.text(q.ID)
		w.text(q.Name)
		w.bytes(q.Data)
		w.text(q.Method)
		w.text(q.URL)
		w.header(q.Header)
		w.bytes(q.Body)
		w.span(q.Timeout)
		w.count(q.Retries)
	}
}

func (r *decoder) requests() []rules.Request {
	n := r.count(9)
	if n > maxRequests {
		r.fail("number of requests")
		return nil
	}
	var list []rules.Request
	for range n {
		list = append(list, rules.Request{
			ID: r.text(), Name: r.text(), Data: r.bytes(), Method: r.text(), URL: r.text(), Header: r.header(),
			Body: r.bytes(), Timeout: r.span(), Retries: r.small(),
		})
	}
	return list
}
