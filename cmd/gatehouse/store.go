package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/disk"
	"github.com/gatehouse/gatehouse/broker/store/durable"
	"github.com/gatehouse/gatehouse/cmd/internal/gateway"
)

func newStore() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Check, count or export the durable state of a gateway that does not run",
		Long: `Check, count or export the durable state of a gateway that does not run. Nothing of it
is changed. Of a gateway that runs, GET /api/v1/store of its console tells the same.`,
	}
	cmd.PersistentFlags().StringVar(&data, "data", os.Getenv("STATE_DIRECTORY"), "data folder of the gateway (default: $STATE_DIRECTORY)")
	for _, sub := range []struct {
		use, short string
		do         func(context.Context, *opened, io.Writer) error
	}{
		{"check", "Read all of it; the exit code is 1 if any is damaged", checkStore},
		{"stats", "Say how much there is of what, as JSON", statStore},
		{"export", "Write all of it, a line of JSON each: retained messages, sessions, their messages, records", exportStore},
	} {
		cmd.AddCommand(&cobra.Command{Use: sub.use, Short: sub.short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd, data, sub.do)
		}})
	}
	return cmd
}

// opened is a store that is only read.
type opened struct {
	*disk.Store
	snapshot *store.Snapshot
}

// withStore opens the store of a data folder for as long as do needs it.
func withStore(cmd *cobra.Command, data string, do func(context.Context, *opened, io.Writer) error) (err error) {
	if data == "" {
		return errors.New("which gateway? Give its data folder: --data DIR")
	}
	folder := filepath.Join(data, gateway.StoreFolder)
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return fmt.Errorf("there is no store in %q: is it the data folder of a gateway?", data)
	}
	unlock, err := lockStore(folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := disk.Open(disk.Options{Folder: folder, FS: durable.Overlay(durable.OS()), Ballast: -1, Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	o := &opened{Store: s}
	if o.snapshot, err = s.Load(cmd.Context()); err != nil {
		return err
	}
	out := bufio.NewWriter(cmd.OutOrStdout())
	return errors.Join(do(cmd.Context(), o, out), out.Flush())
}

// lockStore keeps a gateway from starting meanwhile, and refuses if one runs. A store
// without a lock, a copy perhaps, or one that cannot be written needs none.
func lockStore(folder string) (unlock func() error, err error) {
	path := filepath.Join(folder, "lock")
	if _, err := os.Stat(path); err != nil {
		return func() error { return nil }, nil
	}
	lock, err := durable.Lock(path)
	switch {
	case errors.Is(err, durable.ErrLocked):
		return nil, fmt.Errorf("%w; stop the gateway, or ask it: GET /api/v1/store of its console", err)
	case err != nil:
		return func() error { return nil }, nil
	}
	return lock.Close, nil
}

// each calls f with every queued message, oldest first.
func (o *opened) each(ctx context.Context, f func(session string, q *store.Queued) error) error {
	for i := range o.snapshot.Sessions {
		id := o.snapshot.Sessions[i].ClientID
		for from := uint64(0); ; {
			queued, err := o.Fetch(ctx, id, from, 256)
			if err != nil {
				return err
			}
			if len(queued) == 0 {
				break
			}
			for k := range queued {
				if err := f(id, &queued[k]); err != nil {
					return err
				}
			}
			from = queued[len(queued)-1].Position + 1
		}
	}
	return nil
}

// eachRecord calls f with every keyed record.
func (o *opened) eachRecord(ctx context.Context, f func(bucket string, r *store.Record) error) error {
	for _, bucket := range o.Buckets() {
		for r := (store.Range{Bucket: bucket, Limit: 256}); ; {
			records, err := o.Records(ctx, r)
			if err != nil {
				return err
			}
			if len(records) == 0 {
				break
			}
			for i := range records {
				if err := f(bucket, &records[i]); err != nil {
					return err
				}
			}
			r.After = records[len(records)-1].Key
		}
	}
	return nil
}

func checkStore(ctx context.Context, o *opened, out io.Writer) error {
	waiting, records := 0, 0
	err := errors.Join(
		o.each(ctx, func(string, *store.Queued) error { waiting++; return nil }),
		o.eachRecord(ctx, func(string, *store.Record) error { records++; return nil }),
	)
	if err != nil {
		return err
	}
	verdict := "ok"
	st := o.Stats()
	if st.Damaged > 0 {
		verdict = fmt.Sprintf("damaged in %d places, all else is right", st.Damaged)
	}
	_, err = fmt.Fprintf(out, "%s: %d segments, %d sessions, %d messages waiting, %d retained, %d records\n",
		verdict, st.Segments, len(o.snapshot.Sessions), waiting, len(o.snapshot.Retained), records)
	if st.Damaged > 0 {
		err = errors.Join(err, errTold)
	}
	return err
}

func statStore(ctx context.Context, o *opened, out io.Writer) error {
	records := make(map[string]int)
	if err := o.eachRecord(ctx, func(bucket string, _ *store.Record) error { records[bucket]++; return nil }); err != nil {
		return err
	}
	st := o.Stats()
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(map[string]any{
		"segments": st.Segments, "segment_bytes": st.SegmentSize, "live_bytes": st.Live, "dead_bytes": st.Dead,
		"sessions": st.Sessions, "messages": st.Messages, "retained": len(o.snapshot.Retained), "records": records,
		"damaged": st.Damaged, "clock_plausible": st.ClockPlausible,
	})
}

// Lines of an export. Payloads and values are base64.
type (
	messageLine struct {
		Kind       string             `json:"kind"` // retained or queued
		Session    string             `json:"session,omitempty"`
		Position   uint64             `json:"position,omitempty"`
		PacketID   uint16             `json:"packet_id,omitempty"` // of one that was sent
		Received   bool               `json:"received,omitempty"`  // by the client, of QoS 2
		Topic      string             `json:"topic,omitempty"`
		Payload    []byte             `json:"payload,omitempty"`
		QoS        message.QoS        `json:"qos"`
		Properties []message.Property `json:"user_properties,omitempty"`
		Origin     string             `json:"origin,omitempty"`
		At         *time.Time         `json:"at,omitempty"`
		Expires    *time.Time         `json:"expires,omitempty"`
	}
	sessionLine struct {
		Kind          string               `json:"kind"` // session
		ClientID      string               `json:"client_id"`
		Principal     string               `json:"principal,omitempty"`
		Expiry        string               `json:"expiry"`
		Ended         *time.Time           `json:"ended,omitempty"`
		Subscriptions []store.Subscription `json:"subscriptions"`
		HeldIDs       []uint16             `json:"held_ids,omitempty"`
		Queued        int                  `json:"queued"`
	}
	recordLine struct {
		Kind   string `json:"kind"` // record
		Bucket string `json:"bucket"`
		Key    string `json:"key"`
		Value  []byte `json:"value"`
	}
)

func exportStore(ctx context.Context, o *opened, out io.Writer) error {
	e := json.NewEncoder(out)
	for _, m := range o.snapshot.Retained {
		line := messageLine{Kind: "retained"}
		line.of(m)
		if err := e.Encode(line); err != nil {
			return err
		}
	}
	for i := range o.snapshot.Sessions {
		s := &o.snapshot.Sessions[i]
		line := sessionLine{
			Kind: "session", ClientID: s.ClientID, Principal: s.Principal, Expiry: s.Expiry.String(), Ended: known(s.Ended),
			Subscriptions: s.Subscriptions, HeldIDs: s.HeldIDs, Queued: s.Queued,
		}
		if s.Expiry == store.Forever {
			line.Expiry = "never"
		}
		if err := e.Encode(line); err != nil {
			return err
		}
	}
	if err := o.eachRecord(ctx, func(bucket string, r *store.Record) error {
		return e.Encode(recordLine{"record", bucket, r.Key, r.Value})
	}); err != nil {
		return err
	}
	return o.each(ctx, func(session string, q *store.Queued) error {
		line := messageLine{Kind: "queued", Session: session, Position: q.Position, PacketID: q.ID, Received: q.Received}
		if q.Message != nil {
			line.of(q.Message)
		}
		return e.Encode(line)
	})
}

func (l *messageLine) of(m *message.Message) {
	l.Topic, l.Payload, l.QoS, l.Properties = m.Topic, m.Payload, m.QoS, m.UserProperties
	l.Origin, l.At, l.Expires = m.Origin, known(m.At), known(m.Expires)
}

// known is nil for the zero time.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
