package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gatehouse/gatehouse/broker/listen"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/cmd/internal/config"
)

// openListener opens one listener of the configuration.
func (g *Gateway) openListener(ctx context.Context, l *config.Listener) (*listen.Listener, error) {
	name := listenerName(*l)
	mode, err := l.FileMode()
	if err != nil {
		return nil, err
	}
	o := listen.Options{
		Name: name, Address: l.Address, Protocol: l.Protocol, Origins: l.Origins, Proxies: l.Proxies(),
		Mode: fs.FileMode(mode), Sockets: g.opt.Sockets, Log: g.opt.Log.With("part", "listener"),
	}
	if l.OverTLS() {
		if o.TLS, err = g.tls(l); err != nil {
			return nil, fmt.Errorf("listener %s: %w", name, err)
		}
	}
	ln, err := listen.Listen(ctx, o)
	if err != nil {
		return nil, err
	}
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() { // a socket that was passed, perhaps
		if msg := g.config().OffLoopback(l, tcp.String()); msg != "" {
			return nil, errors.Join(fmt.Errorf("listener %s: %s", name, msg), ln.Close())
		}
	}
	g.opt.Log.Info("listening", "protocol", l.Protocol, "address", ln.Addr().String())
	g.showCertificates(ln)
	return ln, nil
}

// tlsOf is the TLS of a listener as its configuration says.
func tlsOf(l *config.Listener) *listen.TLS {
	o := &listen.TLS{ClientCA: l.TLS.ClientCA, Optional: l.TLS.ClientCertificate == "optional", CRL: l.TLS.CRL}
	if l.TLS.MinVersion == "1.3" {
		o.MinVersion = tls.VersionTLS13
	}
	for _, pair := range l.TLS.Certificates {
		o.Certificates = append(o.Certificates, listen.KeyPair{Certificate: pair.Certificate, Key: pair.Key})
	}
	return o
}

// tls is the TLS of a listener, with a certificate of our own if it names none.
func (g *Gateway) tls(l *config.Listener) (*listen.TLS, error) {
	o := tlsOf(l)
	if len(o.Certificates) > 0 {
		return o, nil
	}
	if g.opt.Data == "" {
		return nil, errors.New("it names no certificate, and there is no data folder to keep a self-signed one in: " +
			"list tls.certificates, or give --data")
	}
	pair, err := ownCertificate(filepath.Join(g.opt.Data, "tls"))
	if err != nil {
		return nil, err
	}
	o.Certificates = []listen.KeyPair{pair}
	return o, nil
}

// showCertificates tells what a listener shows itself with.
func (g *Gateway) showCertificates(l *listen.Listener) {
	for _, c := range l.Certificates() {
		g.opt.Log.Info("certificate", "listener", l.Stats().Name, "file", c.File, "names", c.Names, "expires", c.Expires, "sha256", c.Fingerprint)
	}
}

// tellOverdue warns of a listener's revocation list that is overdue, once; told holds
// since when those were that it has warned of.
func (g *Gateway) tellOverdue(l *listen.Listener, told map[*listen.Listener]time.Time) {
	since := l.Overdue()
	if since.IsZero() || since.Equal(told[l]) {
		return
	}
	told[l] = since
	g.opt.Log.Warn("a revocation list is overdue; it stays in force", "listener", l.Stats().Name, "since", since)
}

// reloadCertificates has every listener read its certificates again. One whose files
// are broken keeps what it has.
func (g *Gateway) reloadCertificates() {
	for _, l := range g.opened() {
		g.reloadCertificate(l)
	}
}

// opened are the listeners, once they are open.
func (g *Gateway) opened() []*listen.Listener {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.listeners)
}

func (g *Gateway) reloadCertificate(l *listen.Listener) {
	changed, err := l.Reload()
	switch {
	case err != nil:
		g.opt.Log.Error("certificates not reloaded; the former ones stay in force", "error", err)
	case changed:
		g.showCertificates(l)
	}
}

// watchCertificates reads the certificates of a listener again when one of its files
// changes, until ctx ends.
func (g *Gateway) watchCertificates(ctx context.Context, l *listen.Listener) {
	var wait sync.WaitGroup
	defer wait.Wait()
	for _, file := range l.Files() {
		wait.Go(func() {
			if err := Watch(ctx, g.opt.Log, file, func() { g.reloadCertificate(l) }); err != nil {
				g.opt.Log.Error("a file is not watched; SIGHUP reads it", "path", file, "error", err)
			}
		})
	}
}

// serve is a listener's part.
func (g *Gateway) serve(ctx context.Context, l *listen.Listener) error {
	var wait sync.WaitGroup
	defer wait.Wait()
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	wait.Go(func() { g.watchCertificates(watching, l) })
	return g.broker.Serve(ctx, l)
}

// statusEvery is how often the counters of listeners are published.
const statusEvery = 10 * time.Second

// listenerStatus publishes the counters of listeners, retained, below
// $SYS/broker/listeners/PROTOCOL:ADDRESS, those that have changed, until ctx ends. It
// looks at their revocation lists, too.
func (g *Gateway) listenerStatus(ctx context.Context) error {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	told, overdue := make(map[string]int64), make(map[*listen.Listener]time.Time)
	for {
		var news []message.Message
		for _, l := range g.opened() {
			g.tellOverdue(l, overdue)
			for topic, n := range listenerTopics(l.Stats()) {
				if last, known := told[topic]; !known || last != n {
					told[topic] = n
					news = append(news, message.Message{Topic: topic, Payload: strconv.AppendInt(nil, n, 10), Retain: true})
				}
			}
		}
		if err := g.broker.Publish(ctx, news...); err != nil && ctx.Err() == nil {
			g.opt.Log.Debug("counters of listeners not published", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// listenerTopics are the counters of a listener by their topics.
func listenerTopics(s listen.Stats) map[string]int64 {
	address := s.Address
	if s.Protocol == "unix" {
		address = filepath.Base(address)
	}
	address = strings.Map(func(r rune) rune {
		if r == '+' || r == '#' || r == '/' || r == utf8.RuneError || r == 0 {
			return '_'
		}
		return r
	}, address)
	prefix := "$SYS/broker/listeners/" + s.Protocol + ":" + address + "/"
	topics := map[string]int64{prefix + "accepted": s.Accepted}
	if s.Protocol == "mqtts" || s.Protocol == "wss" {
		topics[prefix+"handshakes"] = s.Handshakes
	}
	for why, n := range s.Refused {
		topics[prefix+"refused/"+why] = n
	}
	return topics
}
