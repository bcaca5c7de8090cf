package jsvm

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dop251/goja"

	"github.com/gatehouse/gatehouse/rules"
)

// Bounds of an HTTP request, as rules.Request states them.
const (
	maxURL         = 8 << 10
	maxHeaders     = 64
	maxHTTPTimeout = time.Minute
	maxRetries     = 10
)

// waiting is a promise that waits for the reply to a request.
type waiting struct {
	resolve func(any) error
	reject  func(any) error
}

func (s *script) setUpHTTP() {
	s.offer("http", func() goja.Value {
		return s.with(s.rt.ToValue(s.jsHTTP), map[string]native{"later": s.jsHTTPLater})
	})
}

// jsHTTP is http(url, [options]): a promise of the reply.
func (s *script) jsHTTP(call goja.FunctionCall) goja.Value {
	e := s.effectsOf("http")
	q := s.requestOf("http", call, nil)
	if len(s.waiting) >= maxWaiting {
		panic(s.rt.NewTypeError("more than %d requests are on their way", maxWaiting))
	}
	s.timerSeq++
	q.ID, q.Name = fmt.Sprintf("await %d.%d", s.number, s.timerSeq), awaited
	promise, resolve, reject := s.rt.NewPromise()
	if s.shadow { // nobody makes it
		s.ask(q)
		if err := resolve(s.newReply(&rules.Reply{})); err != nil {
			panic(err)
		}
		return s.rt.ToValue(promise)
	}
	if s.waiting == nil {
		s.waiting = make(map[string]waiting)
	}
	s.waiting[q.ID] = waiting{resolve, reject}
	e.waits = append(e.waits, q.ID)
	s.ask(q)
	return s.rt.ToValue(promise)
}

// jsHTTPLater is http.later(url, {name, data, id, ...}): the reply goes to a handler,
// in whatever process that is.
func (s *script) jsHTTPLater(call goja.FunctionCall) goja.Value {
	s.effectsOf("http.later")
	var name, id string
	var data []byte
	q := s.requestOf("http.later", call, func(key string, v goja.Value) bool {
		switch key {
		case "name":
			name = s.nameOf("http.later", v)
		case "data":
			data = s.dataOf("http.later", v)
		case "id":
			id = s.idOf(v)
		default:
			return false
		}
		return true
	})
	if name == "" {
		panic(s.rt.NewTypeError("http.later needs the name of a reply(name, handler)"))
	}
	s.needHandler("http.later", "reply", kindReply, name)
	if id == "" {
		s.timerSeq++
		id = fmt.Sprintf("%x.%d", s.now.UnixNano(), s.timerSeq)
	}
	q.ID, q.Name, q.Data = fmt.Sprintf("http %q %s", name, id), name, data
	s.ask(q)
	if s.shadow { // the handler is a rule of its own, whose actions would be taken
		s.fact("shadow", []byte("the request is shown, not sent, and reply(\""+name+"\") is not called"))
	}
	return goja.Undefined()
}

func (s *script) ask(q rules.Request) {
	e := s.in
	if len(e.requests) == maxRequests {
		panic(s.rt.NewTypeError("an event may make at most %d requests", maxRequests))
	}
	s.keptCap("http", len(q.ID)+len(q.Name)+len(q.Data))
	s.fact("http "+cmp.Or(q.Method, "GET")+" "+q.URL, q.Body)
	e.requests = append(e.requests, q)
}

// requestOf reads the address and the options; more takes those that it does not know.
func (s *script) requestOf(word string, call goja.FunctionCall, more func(string, goja.Value) bool) rules.Request {
	q := rules.Request{URL: s.urlOf(call.Argument(0))}
	kind := ""
	s.eachOption(word, call.Argument(1), func(key string, v goja.Value) bool {
		switch key {
		case "method":
			q.Method = s.methodOf(v)
		case "headers":
			q.Header = s.headersOf(v)
		case "body":
			q.Body = s.payloadOf(v)
			if _, raw := bytesOf(v); !raw && !goja.IsString(v) {
				kind = "application/json"
			}
		case "timeout":
			if q.Timeout = s.durationOf(v, time.Millisecond); q.Timeout <= 0 || q.Timeout > maxHTTPTimeout {
				panic(s.rt.NewTypeError("timeout must be more than nothing and at most %v", maxHTTPTimeout))
			}
		case "retries":
			n := v.ToFloat()
			if !goja.IsNumber(v) || n != float64(int(n)) || n < 0 || n > maxRetries {
				panic(s.rt.NewTypeError("retries must be 0 to %d", maxRetries))
			}
			q.Retries = int(n)
		default:
			return more != nil && more(key, v)
		}
		return true
	})
	if q.Method == "" && q.Body != nil {
		q.Method = "POST"
	}
	if kind != "" && !hasHeader(q.Header, "content-type") {
		if q.Header == nil {
			q.Header = make(map[string]string)
		}
		q.Header["Content-Type"] = kind
	}
	s.account(len(q.URL) + len(q.Body))
	return q
}

func (s *script) urlOf(v goja.Value) string {
	text := v.String()
	u, err := url.Parse(text)
	if !goja.IsString(v) || len(text) > maxURL || err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		panic(s.rt.NewTypeError("%s is not an address such as \"https://example.org/\"", quoteTopic(text)))
	}
	return text
}

func (s *script) methodOf(v goja.Value) string {
	method := strings.ToUpper(v.String())
	if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, method) {
		panic(s.rt.NewTypeError("method must be GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS"))
	}
	return method
}

func (s *script) headersOf(v goja.Value) map[string]string {
	o, ok := v.(*goja.Object)
	if !ok {
		panic(s.rt.NewTypeError("headers must be an object"))
	}
	h := make(map[string]string)
	for _, key := range o.Keys() {
		value := o.Get(key).String()
		if len(h) == maxHeaders {
			panic(s.rt.NewTypeError("more than %d headers", maxHeaders))
		}
		if !isToken(key) || strings.ContainsAny(value, "\r\n\x00") {
			panic(s.rt.NewTypeError("header %s cannot be sent", quoteTopic(key)))
		}
		s.fieldCap("header "+key, len(value))
		s.account(len(key) + len(value))
		h[key] = value
	}
	return h
}

// isToken reports whether s can be the name of a header (RFC 9110 §5.6.2).
func isToken(s string) bool {
	return s != "" && len(s) <= maxNameBytes && !strings.ContainsFunc(s, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

func hasHeader(h map[string]string, name string) bool {
	for key := range h {
		if strings.EqualFold(key, name) {
			return true
		}
	}
	return false
}

// callReply hands a reply to who waits for it.
func (s *script) callReply(c *callRecord) wireOutcome {
	if c.Name != awaited {
		if c.Rule >= len(s.rules) || s.rules[c.Rule].Kind != kindReply {
			return wireOutcome{Fault: &fault{Msg: fmt.Sprintf("no reply %q", c.Name)}}
		}
		return s.callRule(c.Rule, func() []goja.Value {
			return []goja.Value{s.newReply(c.Reply), s.given(c.Data), s.info(map[string]any{"name": c.Name})}
		})
	}
	w, ok := s.waiting[c.Timer]
	if !ok {
		return wireOutcome{Logs: []rules.LogLine{{Text: "a reply came too late: the runtime that waited for it is gone"}}}
	}
	delete(s.waiting, c.Timer)
	out := s.run(&effects{}, func() error {
		var err error
		if ex := s.rt.Try(func() {
			if c.Reply.Err != "" {
				err = w.reject(s.newError("%s", c.Reply.Err))
			} else {
				err = w.resolve(s.newReply(c.Reply))
			}
		}); ex != nil {
			return ex
		}
		if err != nil {
			return err
		}
		_, err = s.rt.RunProgram(s.nothing) // and with it those who wait
		return err
	}, nil)
	out.Fired = out.Fault == nil
	return out
}

// jsReply is a reply as a script sees it: a view like that of a message.
type jsReply struct {
	body   *jsMessage
	fields map[string]goja.Value
}

// newReply makes the view of a reply.
func (s *script) newReply(p *rules.Reply) goja.Value {
	headers := s.rt.NewObject()
	for key, v := range p.Header {
		_ = headers.Set(strings.ToLower(key), v) // a plain new object takes everything
	}
	r := &jsReply{
		body: &jsMessage{s: s, m: &wireMessage{}, what: "the reply"},
		fields: map[string]goja.Value{
			"status": s.rt.ToValue(p.Status), "ok": s.rt.ToValue(p.Status >= 200 && p.Status < 300), "headers": headers,
		},
	}
	r.body.m.Payload = p.Body
	if p.Err != "" {
		r.fields["error"] = s.rt.ToValue(p.Err)
	}
	return s.rt.NewDynamicObject(r)
}

// Get implements goja.DynamicObject.
func (r *jsReply) Get(key string) goja.Value {
	switch key {
	case "payload", "text", "bytes":
		return r.body.Get(key)
	}
	return r.fields[key]
}

// Set implements goja.DynamicObject.
func (r *jsReply) Set(string, goja.Value) bool { return false }

// Has implements goja.DynamicObject.
func (r *jsReply) Has(key string) bool {
	return slices.Contains(r.Keys(), key) || key == "payload" || key == "bytes"
}

// Delete implements goja.DynamicObject.
func (r *jsReply) Delete(string) bool { return false }

// Keys implements goja.DynamicObject.
func (r *jsReply) Keys() []string {
	keys := []string{"status", "ok", "headers", "text"}
	if r.fields["error"] != nil {
		keys = append(keys, "error")
	}
	return keys
}
