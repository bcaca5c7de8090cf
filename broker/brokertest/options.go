package brokertest

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/message"
)

// options reads "* server KEY=VALUE ...".
func (s *scenario) options(r *reader) error {
	if s.server != nil {
		return errors.New("the server runs already")
	}
	s.limits(r)
	if err := s.features(r); err != nil {
		return err
	}
	if r.flag("deny") {
		s.opts.Authorizer = nil
	}
	if r.flag("guarded") {
		s.opts.Authorizer = guard{}
	}
	if r.flag("status") {
		s.opts.StatusEvery = 100 * time.Millisecond
	}
	return r.done()
}

func (s *scenario) limits(r *reader) {
	l := &s.opts.Limits
	for key, field := range map[string]*int{
		"connections": &l.Connections, "sessions": &l.Sessions, "packet": &l.Packet, "filters": &l.Filters,
		"queue": &l.QueueMessages, "in-flight": &l.InFlight, "aliases": &l.TopicAliases, "retained": &l.Retained,
		"delayed":                 &l.Delayed.Messages,
		"connections-per-address": &l.ConnectionsPerAddress, "connect-packet": &l.ConnectPacket, "levels": &l.TopicLevels,
		"user-properties": &l.UserProperties.Count, "all-queues": &l.AllQueues.Count, "rate": &l.PublishRate,
	} {
		if n, ok := r.number(key, 31); ok {
			*field = int(n)
		}
	}
	for key, field := range map[string]*int64{
		"retained-bytes": &l.RetainedBytes, "delayed-bytes": &l.Delayed.Bytes, "queue-bytes": &l.QueueBytes,
		"all-queues-bytes": &l.AllQueues.Bytes, "user-property-bytes": &l.UserProperties.Bytes,
	} {
		if n, ok := r.number(key, 31); ok {
			*field = int64(n)
		}
	}
	for key, field := range map[string]*time.Duration{
		"keep-alive": &l.KeepAlive, "session-expiry": &l.SessionExpiry, "longest-delay": &l.Delayed.Longest,
	} {
		if n, ok := r.number(key, 31); ok {
			*field = time.Duration(n) * time.Second
		}
	}
	if ip, ok := r.text("from"); ok {
		s.from = net.ParseIP(ip)
	}
	if n, ok := r.number("connect-ms", 31); ok {
		l.ConnectTime = time.Duration(n) * time.Millisecond
	}
}

// features reads what is not a limit: shared=STRATEGY, share-NAME=STRATEGY,
// max-qos=N, no-retain, response-prefix=TOPIC, reference=SERVER, moved, events,
// priority=FILTER:CLASS and retained-expiry=FILTER:SECONDS.
func (s *scenario) features(r *reader) error {
	o := &s.opts
	if name, ok := r.text("shared"); ok {
		strategy, err := broker.ParseStrategy(name)
		if err != nil {
			return err
		}
		o.Shared.Strategy = strategy
	}
	for _, w := range r.words {
		group, name, ok := strings.Cut(w, "=")
		group, share := strings.CutPrefix(group, "share-")
		if !ok || !share {
			continue
		}
		r.flag(w)
		strategy, err := broker.ParseStrategy(name)
		if err != nil {
			return err
		}
		if o.Shared.Groups == nil {
			o.Shared.Groups = make(map[string]broker.Strategy)
		}
		o.Shared.Groups[group] = strategy
	}
	if n, ok := r.number("max-qos", 8); ok {
		most := message.QoS(n)
		o.Offer.MaximumQoS = &most
	}
	for key, field := range map[string]*string{"response-prefix": &o.Offer.ResponsePrefix, "reference": &o.Offer.Reference} {
		if text, ok := r.text(key); ok {
			*field = text
		}
	}
	for name, field := range map[string]*bool{"no-retain": &o.Offer.NoRetain, "moved": &o.Offer.Moved, "events": &o.ClientEvents} {
		*field = r.flag(name) || *field
	}
	return s.tables(r)
}

func (s *scenario) tables(r *reader) error {
	for {
		w, ok := r.text("priority")
		if !ok {
			break
		}
		filter, class, _ := strings.Cut(w, ":")
		n, err := strconv.Atoi(class)
		if err != nil {
			return err
		}
		s.opts.Topics.Priorities = append(s.opts.Topics.Priorities, broker.Priority{Filter: filter, Class: n})
	}
	for {
		w, ok := r.text("retained-expiry")
		if !ok {
			return nil
		}
		filter, seconds, _ := strings.Cut(w, ":")
		n, err := strconv.Atoi(seconds)
		if err != nil {
			return err
		}
		s.opts.Topics.RetainedExpiry = append(s.opts.Topics.RetainedExpiry,
			broker.RetainedExpiry{Filter: filter, After: time.Duration(n) * time.Second})
	}
}
