package console

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

//go:embed web
var web embed.FS

// Options says what the console shows and where.
type Options struct {
	// Listener is where it serves; Run closes it. Required.
	Listener net.Listener
	// Source is what it shows. Required.
	Source Source
	// Listeners says what clients connect to, as Source says the rest; nil is nothing.
	Listeners func() []Listener
	// History says what sensors said; nil is nothing.
	History Historian
	// Store says how the durable state is; nil is nothing.
	Store func() Store
	// Hook runs the rules of the webhook called name; nil is none. It reads the body once
	// it has found the token right. Its errors are [ErrToken], [ErrNoHook], that of body,
	// and any other for what did not go well.
	Hook func(ctx context.Context, name, token string, body func() ([]byte, error), contentType string) error
	// Record writes what is published on topic filters, as lines, until ctx ends or write
	// returns an error; nil: it is not told here. Else the error says what is wrong with a
	// filter, or that too many ask.
	Record func(ctx context.Context, filters []string, write func(lines []byte) error) error
	// Wire is what goes over the wires of devices; nil: it is not told here.
	Wire Wire
	// Metrics answers /metrics. Required.
	Metrics http.Handler
	// Ready returns nil when the gateway takes messages, else why it does not.
	// Required.
	Ready func() error
	// Version is the program's, for the API's description.
	Version string
	// Log; nil discards.
	Log *slog.Logger
}

// Console is the HTTP server.
type Console struct {
	opt    Options
	server *http.Server
	ending chan struct{} // closed when it stops: what streams ends
}

// New wires the handlers and starts nothing.
func New(opt Options) (*Console, error) {
	if opt.Listener == nil || opt.Source == nil || opt.Metrics == nil || opt.Ready == nil {
		return nil, errors.New("console needs a listener, a source, metrics and a readiness check")
	}
	if opt.Listeners == nil {
		opt.Listeners = func() []Listener { return nil }
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	c := &Console{opt: opt, ending: make(chan struct{})}
	routes := sync.OnceValue(c.routes) // the API's description takes 700 KB, which no start has to wait for
	c.server = &http.Server{
		Handler: onlyLoopback(ofNoOther(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			routes().ServeHTTP(w, r)
		}))),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(opt.Log.Handler(), slog.LevelDebug),
	}
	c.server.RegisterOnShutdown(sync.OnceFunc(func() { close(c.ending) }))
	return c, nil
}

// Run serves until ctx ends; requests under way get 2 s to finish.
func (c *Console) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- c.server.Serve(c.opt.Listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := c.server.Shutdown(grace); err != nil {
		_ = c.server.Close() // what is still under way is cut off
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	c.api(mux)
	mux.Handle("GET /metrics", c.opt.Metrics)
	if c.opt.Record != nil {
		mux.HandleFunc("GET /api/v1/recording", c.recording)
	}
	if asker, ok := c.opt.Source.(Asker); ok {
		mux.HandleFunc("POST /api/v1/devices/{name}/read", func(w http.ResponseWriter, r *http.Request) { ask(w, r, asker) })
	}
	if c.opt.Wire != nil {
		mux.HandleFunc("GET /api/v1/devices/{name}/wire", c.tapWire)
		mux.HandleFunc("GET /api/v1/devices/{name}/recording", c.recordWire)
		mux.HandleFunc("POST /api/v1/devices/{name}/wire", c.sendWire)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { c.answer(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { c.answer(w, c.opt.Ready()) })
	if c.opt.Hook != nil {
		mux.HandleFunc("POST /hooks/{name}", c.hook)
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'")
		http.ServeFileFS(w, r, web, "web/index.html")
	})
	mux.Handle("GET /web/{$}", http.RedirectHandler("/", http.StatusMovedPermanently)) // the page's links are relative
	mux.Handle("GET /web/", http.FileServerFS(web))
	return mux
}

func (c *Console) answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	text := "ok\n"
	if d := c.damaged(); d > 0 { // it goes on without that
		text = fmt.Sprintf("ok, but the store has lost %d damaged places: see /api/v1/store and the log\n", d)
	}
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		text = err.Error() + "\n"
	}
	_, _ = w.Write([]byte(text)) // a reader that went away is its own loss
}

// damaged counts the damaged places of the store.
func (c *Console) damaged() int64 {
	if c.opt.Store == nil {
		return 0
	}
	return c.opt.Store().Damaged
}

// ofNoOther refuses what a page of the web has a browser do here. Who has the token of a
// webhook may come from anywhere.
func ofNoOther(next http.Handler) http.Handler {
	guard := http.NewCrossOriginProtection()
	guard.AddInsecureBypassPattern("POST /hooks/{name}")
	return guard.Handler(next)
}

// onlyLoopback refuses requests that name another host: a page of the web can let
// its own name point at 127.0.0.1, but cannot change the Host that it then sends.
func onlyLoopback(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = strings.Trim(r.Host, "[]")
		}
		ip, err := netip.ParseAddr(host)
		if !strings.EqualFold(host, "localhost") && (err != nil || !ip.IsLoopback()) {
			http.Error(w, "the console answers to localhost, 127.0.0.1 and [::1] only", http.StatusForbidden)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}
