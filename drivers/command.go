package drivers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// MaxCommandBytes bounds the payload of a command.
const MaxCommandBytes = 64 << 10

// maxQueuedBytes bounds what a command takes in the queue, its properties among it.
const maxQueuedBytes = 2 * MaxCommandBytes

// command is one message on a control topic.
type command struct {
	msg   message.Message
	point string // empty: an object of several points
}

// result is what became of a command.
type result struct {
	value   []byte   // JSON: what the device holds, or was given
	warning string   // it was carried out, but
	err     string   // why it was not
	unknown bool     // perhaps it was: no answer told
	written []string // with err: the points that were written before
	left    []string // with err, of points together: those that were not, for all that is known
	failed  int      // how many of them, from the first on, err is about; the others were not tried

	confirm string    // the token to send it again with
	expires time.Time // of confirm
}

func (r result) json() []byte {
	if r.err != "" {
		b := appendText([]byte(`{"ok":false,"error":`), strings.ToValidUTF8(r.err, "\uFFFD"))
		if r.confirm != "" {
			b = appendText(append(b, `,"confirm":`...), r.confirm)
			b = appendText(append(b, `,"expires":`...), r.expires.UTC().Format(time.RFC3339))
		}
		if r.unknown {
			b = append(b, `,"unknown":true`...)
		}
		if r.value != nil {
			b = append(append(b, `,"value":`...), r.value...)
		}
		b = appendNames(b, "written", r.written)
		b = appendNames(b, "failed", r.left[:r.failed])
		b = appendNames(b, "not_tried", r.left[r.failed:])
		return append(b, '}')
	}
	b := append([]byte(`{"ok":true,"value":`), r.value...)
	if r.warning != "" {
		b = appendText(append(b, `,"warning":`...), strings.ToValidUTF8(r.warning, "\uFFFD"))
	}
	return append(b, '}')
}

// appendNames adds a member that lists points, if there are any.
func appendNames(b []byte, key string, names []string) []byte {
	if len(names) == 0 {
		return b
	}
	b = append(appendText(append(b, ','), key), ':')
	for i, name := range names {
		b = appendText(append(b, "[,"[min(i, 1)]), name)
	}
	return append(b, ']')
}

// dispatch hands commands to their devices. It never waits for one.
func (r *run) dispatch(ctx context.Context, batch []message.Message) error {
	for i := range batch {
		if why, s := r.enqueue(batch[i]); why != "" {
			if s != nil {
				s.count(func(c *Counters) { c.Refused++ })
			}
			r.host.answer(ctx, r.bus, &batch[i], result{err: why})
		}
	}
	return nil
}

// enqueue returns why the command could not be handed over.
func (r *run) enqueue(m message.Message) (why string, s *slot) {
	h := r.host
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.targets[m.Topic]
	if t == nil || h.slots[t.device] == nil {
		return "there is no such device or point", nil
	}
	s = h.slots[t.device]
	switch {
	case len(m.Payload) > MaxCommandBytes:
		return fmt.Sprintf("the payload is over %d bytes", MaxCommandBytes), s
	case m.Size() > maxQueuedBytes:
		return fmt.Sprintf("the command is over %d bytes with its properties", maxQueuedBytes), s
	}
	select {
	case s.cmds <- command{msg: m, point: t.point}:
		return "", s
	default:
		return fmt.Sprintf("busy: %d commands wait for the device already", cap(s.cmds)), s
	}
}

// answer publishes the result of a command: on the response topic of the message,
// else next to the control topic. A response topic cannot be a control topic nor
// begin with "$", and whoever commands must be allowed to publish to it: who may only
// command a device must not speak in its name elsewhere.
func (h *Host) answer(ctx context.Context, bus message.Bus, m *message.Message, r result) {
	h.mu.Lock()
	t := h.targets[m.Topic]
	own := h.targets[m.ResponseTopic] != nil
	h.mu.Unlock()
	if m.NoResponse && r.warning == "" {
		r.warning = "the sender may not publish to the response topic"
	}
	reply := message.Message{
		Topic: m.Topic + "/result", Payload: r.json(), QoS: message.AtLeastOnce,
		UTF8: true, ContentType: "application/json", Hops: m.Hops,
	}
	if t != nil {
		reply.Origin = "device/" + t.device
	}
	if topic.ValidName(m.ResponseTopic) && !own && !m.NoResponse && !strings.HasPrefix(m.ResponseTopic, "$") {
		reply.Topic, reply.CorrelationData = m.ResponseTopic, m.CorrelationData
	}
	if err := bus.Publish(ctx, reply); err != nil && ctx.Err() == nil {
		h.opts.Log.Warn("result of a command was not published", "topic", reply.Topic, "error", err)
	}
}

// refuse answers a command that was not tried.
func (s *slot) refuse(ctx context.Context, c command, why string) {
	s.count(func(c *Counters) { c.Refused++ })
	s.host.answer(ctx, s.bus, &c.msg, result{err: why})
}

// refuseQueued answers the commands that are left when the device ends.
func (s *slot) refuseQueued(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
	defer cancel()
	for {
		select {
		case c := <-s.cmds:
			s.refuse(ctx, c, "device is closed")
		default:
			return
		}
	}
}

// lastWord bounds the answers to commands of a device that is closed.
const lastWord = 5 * time.Second

// command carries out one command and answers it, also if ctx ends meanwhile. It returns
// an error if the device must be opened again.
func (x *session) command(ctx context.Context, c command) error {
	err := stillWanted(ctx, &c.msg)
	var writes []pointWrite
	var strange []string
	var back result
	if err == nil {
		writes, strange, back, err = x.judge(ctx, c)
	}
	switch {
	case err != nil:
		x.slot.count(func(n *Counters) { n.Refused++ })
		x.answer(ctx, c, result{err: err.Error()})
		return nil
	case back.confirm != "":
		x.answer(ctx, c, back)
		return nil
	}
	res, lost, err := x.carryOut(ctx, c, writes)
	if len(strange) > 0 && res.warning == "" && res.err == "" {
		res.warning = fmt.Sprintf("there is no point %q", strange[0])
	}
	x.answer(ctx, c, res)
	switch {
	case lost:
		return err
	case err != nil:
		return x.unanswered(ctx, err)
	}
	return nil
}

// answer answers a command. If the device is being closed the answer has a little time.
func (x *session) answer(ctx context.Context, c command, res result) {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), lastWord)
		defer cancel()
	}
	x.slot.host.answer(ctx, x.slot.bus, &c.msg, res)
}

// errClosing says that ctx has ended: the file was saved, or the gateway stops.
var errClosing = errors.New("the device is being closed")

// stillWanted refuses what must not be written any more.
func stillWanted(ctx context.Context, m *message.Message) error {
	switch {
	case ctx.Err() != nil:
		return errClosing
	case m.Retain:
		return errors.New("a retained message is not a command")
	case m.Expired(time.Now()):
		return errors.New("the command has expired")
	}
	return nil
}

// pointWrite is one point to write.
type pointWrite struct {
	point string
	value Value // as it was said: a name
	raw   Value // as the device gets it
}

// judge says what a command is to write, or that it is to be confirmed before. All of
// it is judged before any is written.
func (x *session) judge(ctx context.Context, c command) (writes []pointWrite, strange []string, back result, err error) {
	writes, token, err := x.parse(c)
	if c.point == "" && err == nil {
		writes, strange, err = x.known(writes)
	}
	if err == nil {
		err = x.writable(writes)
	}
	for i := range writes {
		if err == nil {
			err = x.resolve(ctx, &writes[i])
		}
	}
	if err == nil {
		back, err = x.confirmed(&c.msg, writes, token)
	}
	return writes, strange, back, err
}

// parse reads a command, and the token that it carries.
func (x *session) parse(c command) (writes []pointWrite, token string, err error) {
	payload := c.msg.Payload
	switch {
	case len(payload) == 0:
		return nil, "", errors.New("the payload is empty")
	case !utf8.Valid(payload):
		return nil, "", errors.New("the payload is not UTF-8")
	}
	if c.point == "" {
		writes, token, err = x.parseTogether(payload)
	} else {
		var w pointWrite
		w, token, err = x.parseOne(c.point, payload)
		writes = []pointWrite{w}
	}
	if t := tokenOf(&c.msg); t != "" {
		token = t
	}
	return writes, token, err
}

// parseOne reads the value of one point.
func (x *session) parseOne(point string, payload []byte) (w pointWrite, token string, err error) {
	w.point = point
	if i, known := x.entry.index[point]; known && x.entry.points[i].Confirm {
		payload, token = unwrap(payload)
	}
	if w.value, err = ParseValue(payload); errors.Is(err, ErrNotJSON) {
		w.value, err = TextValue(string(payload)), nil
	}
	return w, token, err
}

// parseTogether reads an object of points and values, and perhaps a token.
func (x *session) parseTogether(payload []byte) (writes []pointWrite, token string, err error) {
	all, err := parseObject(payload)
	for _, w := range all {
		if _, known := x.entry.index[w.point]; !known && w.point == confirmKey && w.value.Kind() == Text {
			token = w.value.String()
			continue
		}
		writes = append(writes, w)
	}
	if err == nil && len(writes) == 0 {
		err = errors.New("the payload has no points to write")
	}
	return writes, token, err
}

// known leaves out what is no point of the device: rules like to say more than it
// understands, such as why or since when. An object of nothing else is a mistake.
func (x *session) known(all []pointWrite) (writes []pointWrite, strange []string, err error) {
	for _, w := range all {
		if _, known := x.entry.index[w.point]; known {
			writes = append(writes, w)
		} else {
			strange = append(strange, w.point)
		}
	}
	if len(writes) == 0 {
		return nil, nil, fmt.Errorf("there is no point %q", strange[0])
	}
	return writes, strange, nil
}

func (x *session) writable(writes []pointWrite) error {
	for _, w := range writes {
		_, known := x.entry.index[w.point]
		switch {
		case !known: // the file changed while the command waited
			return fmt.Errorf("there is no point %q", w.point)
		case !x.entry.points[x.entry.index[w.point]].Writable:
			return fmt.Errorf("point %q is not writable", w.point)
		case w.value.IsNull():
			return fmt.Errorf("point %q: null cannot be written", w.point)
		}
	}
	return nil
}

// resolve finds what the device is to get, and refuses what it must not.
func (x *session) resolve(ctx context.Context, w *pointWrite) (err error) {
	pt := &x.entry.points[x.entry.index[w.point]]
	if w.raw, err = pt.raw(w.value, func() (Value, error) { return x.now(ctx, w.point) }); err != nil {
		return fmt.Errorf("point %q: %w", w.point, err)
	}
	return pt.Permits(w.raw)
}

// now reads one point.
func (x *session) now(ctx context.Context, point string) (Value, error) {
	readings, err := x.read(ctx, []string{point})
	if err != nil {
		return Value{}, err
	}
	x.slot.take(ctx, x.entry, readings, origin{})
	for i := range readings {
		switch r := &readings[i]; {
		case r.Point != point:
		case r.Quality == Good:
			return r.Value, nil
		case r.Err != nil:
			return Value{}, r.Err
		}
	}
	return Value{}, errors.New("it cannot be read")
}

// parseObject reads an object of points and values, in its order.
func parseObject(payload []byte) ([]pointWrite, error) {
	notObject := errors.New("the payload is not a JSON object of points and values")
	if !json.Valid(payload) {
		return nil, notObject
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return nil, notObject
	}
	var writes []pointWrite
	for dec.More() {
		tok, err := dec.Token()
		name, ok := tok.(string)
		var raw json.RawMessage
		if err != nil || !ok || dec.Decode(&raw) != nil {
			return nil, notObject
		}
		v, err := ParseValue(raw)
		if err != nil {
			return nil, fmt.Errorf("point %q: %w", name, err)
		}
		writes = append(writes, pointWrite{point: name, value: v})
	}
	if len(writes) == 0 {
		return nil, notObject
	}
	return writes, nil
}
