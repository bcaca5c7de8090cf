package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Config is the whole file with its defaults filled in.
type Config struct {
	Broker  Broker  `yaml:"broker"`
	Rules   Rules   `yaml:"rules"`
	Devices Devices `yaml:"devices"`
	Plugins Plugins `yaml:"plugins"`
	// Uplinks are connections to other brokers. This version has none: the list
	// must be empty.
	Uplinks   []map[string]any `yaml:"uplinks"`
	Console   Console          `yaml:"console"`
	Store     Store            `yaml:"store"`
	History   History          `yaml:"history"`
	Discovery Discovery        `yaml:"discovery"`
	Log       Log              `yaml:"log"`

	file string
	text []byte
	body ast.Node // of text, while it is checked
}

// Broker is the MQTT broker.
type Broker struct {
	// Listeners are where clients connect; default MQTT on 127.0.0.1:1883.
	Listeners []Listener `yaml:"listeners"`
	// Anonymous lets clients without a user name in, on loopback listeners and
	// Unix sockets only; default true.
	Anonymous bool `yaml:"anonymous"`
	// SessionExpiry is the longest that a session may outlive its connection; 0s
	// (default) is no limit.
	SessionExpiry time.Duration `yaml:"session_expiry"`
	// Offer is what of MQTT clients are offered; default all of it.
	Offer Offer `yaml:"offer"`
	// Shared is how groups of shared subscriptions choose.
	Shared Shared `yaml:"shared"`
	// Delayed bounds messages to $delayed/SECONDS/TOPIC.
	Delayed Delayed `yaml:"delayed"`
	// Priorities are classes of messages that wait; default none.
	Priorities []Priority `yaml:"priorities"`
	// RetainedExpiry limits the life of retained messages; default none.
	RetainedExpiry []RetainedExpiry `yaml:"retained_expiry"`
	// ClientEvents publishes who connects, disconnects, subscribes and unsubscribes
	// below $SYS/broker/clients; default false.
	ClientEvents bool `yaml:"client_events"`
	// Users is a file of users and their hashed passwords, one NAME:HASH a line, such
	// as "gatehouse passwd" and mosquitto_passwd make; default none. A relative path
	// counts from the folder of the configuration file. It needs an ACL.
	Users string `yaml:"users"`
	// ACL is a file that says who may do what: in YAML if its name ends in .yaml or
	// .yml, else as mosquitto's acl_file; default none, which lets anonymous clients
	// do everything and others nothing.
	ACL string `yaml:"acl"`
	// CertificateName says which name of a client's certificate is its user name: cn
	// (the subject's common name, default), or the first subject alternative name of
	// a kind: dns, email, uri.
	CertificateName string `yaml:"certificate_name"`
	// Limits bound what clients may use.
	Limits Limits `yaml:"limits"`
}

// Devices is the device host.
type Devices struct {
	// Folder holds one *.yaml file a device; default "devices".
	Folder string `yaml:"folder"`
}

// Plugins is the plugin host.
type Plugins struct {
	// Folder holds one folder a plugin, each with its plugin.yaml; default "plugins".
	Folder string `yaml:"folder"`
}

// Console is the HTTP side: API, metrics, health.
type Console struct {
	// Address is HOST:PORT on loopback; empty switches the console off; default
	// 127.0.0.1:8080.
	Address string `yaml:"address"`
}

// Log is what the gateway says of itself.
type Log struct {
	// Level is debug, info (default), warn or error.
	Level string `yaml:"level"`
	// Format is text (default) or json.
	Format string `yaml:"format"`
}

// Default returns the configuration of an empty file.
func Default() *Config {
	return &Config{
		Broker: Broker{
			Listeners: []Listener{{Address: "127.0.0.1:1883", Protocol: "mqtt"}},
			Anonymous: true, CertificateName: "cn",
			Limits:  defaultLimits(),
			Offer:   defaultOffer(),
			Shared:  Shared{Strategy: "round-robin"},
			Delayed: defaultDelayed(),
		},
		Rules:     Rules{Folder: "scripts"},
		Devices:   Devices{Folder: "devices"},
		Plugins:   Plugins{Folder: "plugins"},
		Console:   Console{Address: "127.0.0.1:8080"},
		Store:     defaultStore(),
		History:   defaultHistory(),
		Discovery: defaultDiscovery(),
		Log:       Log{Level: "info", Format: "text"},
	}
}

// Equal reports whether both say the same, however their files say it.
func (c *Config) Equal(d *Config) bool {
	a, b := *c, *d
	a.file, a.text, b.file, b.text = "", nil, "", nil
	return reflect.DeepEqual(a, b)
}

// LogLevel is the level that Log.Level names.
func (c *Config) LogLevel() slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(c.Log.Level)); err != nil {
		return slog.LevelInfo // not after a check
	}
	return l
}

// Read reads the file and the environment ("KEY=value" strings). An empty file
// name means defaults. The errors are of *Error, joined, but for a file that cannot be read.
func Read(file string, environ []string) (*Config, error) {
	if file == "" {
		return Parse("", nil, environ)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, fmt.Errorf("cannot read configuration %q: %w", file, err)
	}
	return Parse(file, text, environ)
}

// Parse is [Read] for a text at hand; file is its name, for errors and relative paths.
func Parse(file string, text []byte, environ []string) (*Config, error) {
	c := Default()
	c.file, c.text = file, text
	if len(bytes.TrimSpace(text)) > 0 {
		if err := c.decode(c, maxBytes); err != nil {
			return nil, err
		}
	}
	if err := override(c, environ); err != nil {
		return nil, err
	}
	for i := range c.Broker.Listeners {
		if l := &c.Broker.Listeners[i]; l.Protocol == "" {
			l.Protocol = "mqtt"
		}
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	c.body = nil
	if file != "" {
		c.anchor(filepath.Dir(file))
	}
	return c, nil
}

// anchor has relative paths count from the folder of the configuration file.
func (c *Config) anchor(base string) {
	paths := []*string{&c.Rules.Folder, &c.Devices.Folder, &c.Plugins.Folder, &c.Broker.Users, &c.Broker.ACL}
	for i := range c.Rules.Hooks {
		paths = append(paths, &c.Rules.Hooks[i].TokenFile)
	}
	for i := range c.Broker.Listeners {
		paths = append(paths, c.Broker.Listeners[i].TLS.paths()...)
	}
	for _, path := range paths {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(base, *path)
		}
	}
}

// empty reports whether a document holds nothing but comments.
func empty(body ast.Node) bool {
	return body == nil || body.Type() == ast.CommentType || body.Type() == ast.NullType
}

// Bounds of the file: the YAML library recurses, and takes time by the square of what
// is nested.
const (
	maxBytes = 64 << 10
	maxDepth = 200
)

// tooDeep returns the line that the YAML library must not see, 0 if there is none.
// Marks in texts and comments count, too: it need not be exact, only safe.
func tooDeep(text []byte) int {
	brackets, number := 0, 0
	for line := range bytes.Lines(text) {
		number++
		opened := bytes.Count(line, []byte("[")) + bytes.Count(line, []byte("{"))
		brackets = max(0, brackets+opened-bytes.Count(line, []byte("]"))-bytes.Count(line, []byte("}")))
		marks := bytes.Count(line, []byte("- ")) + bytes.Count(line, []byte("? "))
		if brackets > maxDepth || opened+marks > maxDepth {
			return number
		}
	}
	return 0
}

// decode reads the text, of at most so many bytes, strictly: an unknown key, a key
// given twice, a tag, an anchor or a second document is an error.
func (c *Config) decode(into any, most int) (err error) {
	if len(c.text) > most {
		return &Error{File: c.file, Line: 1, Column: 1, Msg: fmt.Sprintf("the file is over %d bytes", most)}
	}
	if line := tooDeep(c.text); line > 0 {
		return &Error{File: c.file, Line: line, Column: 1, Msg: fmt.Sprintf("nested deeper than %d levels", maxDepth)}
	}
	defer func() {
		if v := recover(); v != nil { // the library's, not ours
			err = c.place(fmt.Errorf("the file is not YAML: %v", v))
		}
	}()
	file, err := parser.ParseBytes(c.text, 0)
	if err != nil {
		return c.place(err)
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case empty(doc.Body):
		case body != nil:
			return c.place(&yaml.SyntaxError{Message: `a configuration is one YAML document, without "---"`, Token: doc.Body.GetToken()})
		default:
			body = doc.Body
		}
	}
	if body == nil {
		return nil
	}
	c.body = body
	if t := findTrap(body); t != nil {
		return c.place(t)
	}
	if p := findPart(body, reflect.TypeOf(into).Elem()); p != nil {
		return c.place(p)
	}
	if err := yaml.NodeToValue(body, into, yaml.Strict()); err != nil {
		return c.place(err)
	}
	return nil
}
