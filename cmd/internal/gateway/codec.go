package gateway

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/rules"
)

// codecGlue stands behind a codec's source and makes rules of its functions.
//
//go:embed codec.js
var codecGlue string

// codecCompileTime is how long a codec may take to be compiled, the start of the
// worker among it.
const codecCompileTime = 10 * time.Second

// newCodec has codecs of drivers run in the worker of the scripts, which is the last of
// the languages: a codec is a script with two rules, which hear a frame and answer by a
// publish that goes nowhere else.
func newCodec(languages []rules.Language, log *slog.Logger) drivers.Codec {
	scripts := languages[len(languages)-1]
	return func(device, file, source string) (drivers.Coder, error) {
		ctx, cancel := context.WithTimeout(context.Background(), codecCompileTime)
		defer cancel()
		p, err := scripts.Compile(ctx, rules.Source{
			Name: file, Text: []byte(source + "\n" + codecGlue), State: rules.NewState(nil), Log: log,
			Read: func(string) ([]byte, error) { return nil, errors.New("a codec cannot require other files") },
		})
		if err != nil {
			return nil, fmt.Errorf("cannot compile the codec: %w", before(source, err))
		}
		c := &coder{program: p, log: log.With("device", device), decode: hears(p, "decode"), encode: hears(p, "encode")}
		if _, err := c.call(ctx, rules.Call{Trigger: rules.OnStart}); err != nil {
			return nil, errors.Join(err, p.Close())
		}
		return c, nil
	}
}

// before has an error that is in what stands behind the source, such as that of a bracket
// that is not closed, at the end of the source.
func before(source string, err error) error {
	var at *rules.Error
	last := strings.Count(strings.TrimRight(source, "\n"), "\n") + 1
	if errors.As(err, &at) && at.Line > last {
		return &rules.Error{File: at.File, Line: last, Msg: at.Msg}
	}
	return err
}

// hears is the rule of a program that hears a topic, -1 if there is none.
func hears(p rules.Program, topic string) int {
	return slices.IndexFunc(p.Rules(), func(r rules.Rule) bool { return slices.Contains(r.Filters, topic) })
}

// coder implements drivers.Coder.
type coder struct {
	program        rules.Program
	log            *slog.Logger
	decode, encode int // rules
}

var _ drivers.Coder = (*coder)(nil)

// call makes one call and returns what was published, nil for nothing.
func (c *coder) call(ctx context.Context, call rules.Call) ([]byte, error) {
	call.Now = time.Now()
	out := c.program.Run(ctx, []rules.Call{call})[0]
	for _, l := range out.Logs {
		c.log.Log(ctx, l.Level, "a codec says", "text", l.Text)
	}
	if out.Err != nil {
		return nil, out.Err
	}
	for _, m := range out.Publish {
		if m.Topic == "decoded" || m.Topic == "encoded" {
			return m.Payload, nil
		}
	}
	return nil, nil
}

func (c *coder) hear(ctx context.Context, rule int, topic string, payload []byte) ([]byte, error) {
	return c.call(ctx, rules.Call{Trigger: rules.OnMessage, Rule: rule, Message: &message.Message{Topic: topic, Payload: payload, At: time.Now()}})
}

// Decode implements drivers.Coder.
func (c *coder) Decode(ctx context.Context, frame []byte) (map[string]drivers.Value, error) {
	out, err := c.hear(ctx, c.decode, "decode", frame)
	if err != nil || out == nil {
		return nil, err
	}
	var entries [][]json.RawMessage // name, value and, of a BigInt, true
	if err := json.Unmarshal(out, &entries); err != nil {
		return nil, fmt.Errorf("the codec's answer cannot be read: %w", err)
	}
	values := make(map[string]drivers.Value, len(entries))
	for _, e := range entries {
		name, v, err := readEntry(e)
		if err != nil {
			return nil, err
		}
		values[name] = v
	}
	return values, nil
}

func readEntry(e []json.RawMessage) (name string, v drivers.Value, err error) {
	if len(e) < 2 || json.Unmarshal(e[0], &name) != nil {
		return "", v, errors.New("the codec's answer cannot be read")
	}
	if v, err = drivers.ParseValue(e[1]); err == nil && len(e) > 2 {
		v, err = drivers.ParseNumber(v.String())
	}
	if err != nil {
		err = fmt.Errorf("point %q: %w", name, err)
	}
	return name, v, err
}

// Encode implements drivers.Coder.
func (c *coder) Encode(ctx context.Context, point string, v drivers.Value) ([]byte, error) {
	if c.encode < 0 {
		return nil, errors.New("the codec has no function encode(point, value)")
	}
	name, err := json.Marshal(point)
	if err != nil {
		return nil, fmt.Errorf("point %q: %w", point, err)
	}
	out, err := c.hear(ctx, c.encode, "encode", fmt.Appendf(nil, "[%s,%s]", name, v.AppendJSON(nil)))
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("point %q: the codec makes nothing of %s", point, v)
	}
	return out, err
}

// Close implements drivers.Coder.
func (c *coder) Close() error { return c.program.Close() }
