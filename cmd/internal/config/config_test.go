package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/cmd/internal/config"
)

func TestAnEmptyFileGivesTheDefaults(t *testing.T) {
	for name, text := range map[string]string{"nothing": "", "a comment": "# nothing yet\n", "an empty map": "{}\n", "an empty document": "---\n"} {
		t.Run(name, func(t *testing.T) {
			c, err := config.Parse("", []byte(text), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := c.Broker, config.Default().Broker; !cmp.Equal(got, want) {
				t.Errorf("broker: %s", cmp.Diff(want, got))
			}
			if c.Console.Address != "127.0.0.1:8080" || c.Rules.Folder != "scripts" {
				t.Errorf("console %q, rules %q", c.Console.Address, c.Rules.Folder)
			}
		})
	}
}

func TestKeysOfTheFile(t *testing.T) {
	text := `
broker:
  listeners:
    - {address: "127.0.0.1:0", protocol: mqtt}
    - {address: "[::1]:9001", protocol: ws}
    - {address: "/run/gatehouse.mqtt", protocol: unix}
    - {address: "localhost:1884"}
  anonymous: false
  users: users
  acl: /etc/acl.yaml
  certificate_name: dns
rules:   {folder: my/rules}
devices: {folder: /etc/devices}
uplinks: []
console: {address: ""}
store:   {durability: interval 5s}
log:     {level: debug, format: json}
`
	c, err := config.Parse("/etc/gatehouse/gatehouse.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Listener{
		{Address: "127.0.0.1:0", Protocol: "mqtt"},
		{Address: "[::1]:9001", Protocol: "ws"},
		{Address: "/run/gatehouse.mqtt", Protocol: "unix"},
		{Address: "localhost:1884", Protocol: "mqtt"},
	}
	if diff := cmp.Diff(want, c.Broker.Listeners); diff != "" {
		t.Error(diff)
	}
	if c.Broker.Anonymous || c.Console.Address != "" || c.Log.Level != "debug" {
		t.Errorf("anonymous %v, console %q, level %q", c.Broker.Anonymous, c.Console.Address, c.Log.Level)
	}
	if b := c.Broker; b.Users != "/etc/gatehouse/users" || b.ACL != "/etc/acl.yaml" || b.CertificateName != "dns" {
		t.Errorf("users %q, ACL %q, certificate name %q", b.Users, b.ACL, b.CertificateName)
	}
	if c.Rules.Folder != "/etc/gatehouse/my/rules" || c.Devices.Folder != "/etc/devices" || c.Plugins.Folder != "/etc/gatehouse/plugins" {
		t.Errorf("folders %q, %q, %q", c.Rules.Folder, c.Devices.Folder, c.Plugins.Folder)
	}
}

func TestWhatIsWrongHasAPlaceAndAReason(t *testing.T) {
	for name, tt := range map[string]struct{ text, at, says string }{
		"an unknown key":                 {"broker:\n  listener: []\n", "f.yaml:2:3:", `unknown field "listener"`},
		"a key given twice":              {"log: {}\nlog: {}\n", "f.yaml:2:1:", "already defined"},
		"a value of another type":        {"broker:\n  anonymous: [1]\n", "f.yaml:2:14:", "bool"},
		"a file that is not YAML":        {"broker: {\n", "f.yaml:1:", ""},
		"a YAML tag":                     {"console:\n  address: !x\n", "f.yaml:2:12:", `tag "!x"`},
		"a key without a value":          {"console:\nlog: {}\n", "f.yaml:1:1:", `"console" has no value`},
		"a number that is not whole":     {"broker:\n  limits: {sessions: 1.5}\n", "f.yaml:2:22:", `"1.5" is not a whole number`},
		"an exponent that leaves a part": {"broker: {limits: {queue_bytes: 10241e-1}}\n", "f.yaml:1:32:", "10241e-1"},
		"a part in quotes":               {"broker: {delayed: {messages: \"5.5\"}}\n", "f.yaml:1:30:", "5.5"},
		"more than any number":           {"broker: {offer: {maximum_qos: .inf}}\n", "f.yaml:1:31:", ".inf"},
		"half a class":                   {"broker: {priorities: [{filter: a, class: 1.5}]}\n", "f.yaml:1:42:", "1.5"},
		"a second document":              {"log: {}\n---\nconsole: {address: \"\"}\n", "f.yaml:3:", "one YAML document"},
		"an anchor":                      {"console: &a {address: \"\"}\n", "f.yaml:1:10:", "anchors"},
		"an alias":                       {"console: {address: &a \"127.0.0.1:1\"}\nrules: {folder: *a}\n", "f.yaml:1:20:", "anchors"},
		"a key that is not text":         {"console: {address: \"127.0.0.1:1\", true: 1}\n", "f.yaml:1:35:", `key "true" is not text`},
		"a listener off loopback":        {"broker:\n  listeners:\n    - {address: \"0.0.0.0:1883\"}\n", "f.yaml:3:17:", "not on loopback"},
		"a listener on every address":    {"broker:\n  listeners:\n    - {address: \":1883\"}\n", "f.yaml:3:17:", "not on loopback"},
		"an address without a port":      {"broker:\n  listeners:\n    - {address: localhost}\n", "f.yaml:3:17:", "HOST:PORT"},
		"a port that is too high":        {"console: {address: \"127.0.0.1:70000\"}\n", "f.yaml:1:20:", "70000"},
		"a console off loopback":         {"console: {address: \"192.168.1.2:80\"}\n", "f.yaml:1:20:", "not on loopback"},
		"an address listed twice":        {"broker:\n  listeners:\n    - {address: \"127.0.0.1:1\"}\n    - {address: \"127.0.0.1:1\"}\n", "f.yaml:4:17:", "twice"},
		"an unknown protocol":            {"broker:\n  listeners:\n    - {address: \"127.0.0.1:1\", protocol: amqp}\n", "f.yaml:3:42:", `"amqp"`},
		"uplinks, not there yet":         {"uplinks: [{name: a}]\n", "f.yaml:1:10:", "uplinks"},
		"an unknown durability":          {"store: {durability: sometimes}\n", "f.yaml:1:21:", `"sometimes"`},
		"an interval of no length":       {"store: {durability: interval 0s}\n", "f.yaml:1:21:", "interval"},
		"an unknown log level":           {"log: {level: loud}\n", "f.yaml:1:14:", `"loud"`},
		"a folder without a name":        {"rules: {folder: \"\"}\n", "f.yaml:1:17:", "folder"},
		"users without an ACL":           {"broker: {users: u}\n", "f.yaml:1:17:", "users may do nothing without broker.acl"},
		"another name of certificates":   {"broker: {certificate_name: ou}\n", "f.yaml:1:28:", "cn, dns, email, uri"},
		"clear text off loopback":        {"broker:\n  users: u\n  acl: a\n  listeners:\n    - {address: \"0.0.0.0:1883\"}\n", "f.yaml:5:17:", "a listener there needs TLS, which is protocol mqtts or wss, and users"},
		"a socket path that is too long": {"broker:\n  listeners:\n    - {address: /" + strings.Repeat("a", 120) + ", protocol: unix}\n", "f.yaml:3:17:", "100 bytes"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, tt.text, tt.at, tt.says) })
	}
}

func TestADocumentAfterItsMark(t *testing.T) {
	for _, text := range []string{"---\nlog: {level: debug}\n", "# mine\n---\nlog: {level: debug}\n"} {
		c, err := config.Parse("f.yaml", []byte(text), nil)
		if err != nil || c.Log.Level != "debug" {
			t.Errorf("%q gives %+v, %v", text, c, err)
		}
	}
}

// The file is read again while the gateway runs: no file may end it.
func TestAFileThatIsNestedTooDeep(t *testing.T) {
	for _, mark := range []string{"[", "{a: ", "- ", "? "} {
		for _, n := range []int{10_000, 1_000_000} {
			_, err := config.Parse("f.yaml", []byte("uplinks:\n  "+strings.Repeat(mark, n)+"\n"), nil)
			if err == nil || !strings.HasPrefix(err.Error(), "f.yaml:") {
				t.Errorf("%d times %q gives %v", n, mark, err)
			}
		}
	}
}

// refused parses a text that is wrong, at a place and for a reason.
func refused(t *testing.T, text, at, says string) {
	t.Helper()
	_, err := config.Parse("f.yaml", []byte(text), nil)
	var e *config.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error", err)
	}
	if !strings.HasPrefix(err.Error(), at) || !strings.Contains(err.Error(), says) {
		t.Errorf("got  %v\nwant %s ... %s", err, at, says)
	}
	if e.Snippet == "" || !strings.Contains(e.Snippet, "^") {
		t.Errorf("no source line with a caret in:\n%v", err)
	}
}

func TestAllMistakesAreToldAtOnce(t *testing.T) {
	_, err := config.Parse("f.yaml", []byte("log: {level: loud, format: xml}\n"), nil)
	if err == nil || !strings.Contains(err.Error(), "loud") || !strings.Contains(err.Error(), "xml") {
		t.Errorf("got %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Run("overrides the file", func(t *testing.T) {
		c, err := config.Parse("", []byte("console: {address: \"127.0.0.1:1\"}\n"), []string{
			"PATH=/bin",
			"GATEHOUSE_CONSOLE__ADDRESS=127.0.0.1:2",
			"GATEHOUSE_BROKER__ANONYMOUS=false",
			`GATEHOUSE_BROKER__LISTENERS=[{address: "127.0.0.1:3"}]`,
			"GATEHOUSE_TEST_ANYTHING=1",
		})
		if err != nil {
			t.Fatal(err)
		}
		if c.Console.Address != "127.0.0.1:2" || c.Broker.Anonymous || !cmp.Equal(c.Broker.Listeners[0], config.Listener{Address: "127.0.0.1:3", Protocol: "mqtt"}) {
			t.Errorf("got %+v", c)
		}
	})
	t.Run("keeps what a mapping does not name", func(t *testing.T) {
		c, err := config.Parse("", nil, []string{"GATEHOUSE_LOG__LEVEL=warn", "GATEHOUSE_BROKER={anonymous: false}", "GATEHOUSE_LOG={level: debug}"})
		if err != nil || c.Broker.Anonymous || len(c.Broker.Listeners) != 1 || c.Log != (config.Log{Level: "warn", Format: "text"}) {
			t.Errorf("got %+v, %v", c, err)
		}
	})
	for name, tt := range map[string]struct{ env, says string }{
		"no value":                {"GATEHOUSE_BROKER__LISTENERS=", "GATEHOUSE_BROKER__LISTENERS: cannot read"},
		"a null value":            {"GATEHOUSE_BROKER__ANONYMOUS=null", "GATEHOUSE_BROKER__ANONYMOUS: cannot read"},
		"a YAML tag":              {"GATEHOUSE_BROKER__ANONYMOUS=!x true", "tag"},
		"an unknown key":          {"GATEHOUSE_CONSOL__ADDRESS=x", "GATEHOUSE_CONSOL__ADDRESS: no such key"},
		"a level too many":        {"GATEHOUSE_CONSOLE__ADDRESS__X=x", "no such key"},
		"a value of another type": {"GATEHOUSE_BROKER__ANONYMOUS=perhaps", "GATEHOUSE_BROKER__ANONYMOUS: cannot read"},
		"a value that is refused": {"GATEHOUSE_LOG__LEVEL=loud", "log.level"},
		"parts in a mapping":      {"GATEHOUSE_BROKER__LIMITS={in_flight: 2.5}", `"2.5" is not a whole number`},
		"a fraction":              {"GATEHOUSE_BROKER__LIMITS__SESSIONS=1.5", `cannot read "1.5": "1.5" is not a whole number`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Parse("", nil, []string{tt.env})
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

func TestRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "g.yaml")
	if _, err := config.Read(file, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file gives %v", err)
	}
	if err := os.WriteFile(file, []byte("rules: {folder: r}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Read(file, nil)
	if err != nil || c.Rules.Folder != filepath.Join(filepath.Dir(file), "r") {
		t.Errorf("got %+v, %v", c, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("broker:\n  listeners:\n    - {address: \"127.0.0.1:1883\", protocol: mqtt}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("log: !!binary x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := config.Parse("f.yaml", text, nil)
		if err == nil && c.Log.Level == "" {
			t.Error("accepted without a log level")
		}
	})
}

func TestTheSnippetIsWhatWasWritten(t *testing.T) {
	_, err := config.Parse("f.yaml", []byte("log: {}\nbroker:\n  listener: [] # mine\n"), nil)
	want := "f.yaml:3:3: unknown field \"listener\"\n    1 | log: {}\n    2 | broker:\n    3 |   listener: [] # mine\n      |   ^"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestPlaceAndTimezone(t *testing.T) {
	c, err := config.Parse("gatehouse.yaml", []byte("rules: {place: {latitude: -33.87, longitude: 151.21}, timezone: UTC}"), nil)
	if err != nil || c.Rules.Place != (config.Place{Latitude: -33.87, Longitude: 151.21}) || c.Rules.Timezone != "UTC" {
		t.Errorf("got %+v, %v", c, err)
	}
	for text, want := range map[string]string{
		"{place: {latitude: 91}}":                                      "between -90 and 90",
		"{place: {latitude: .nan}}":                                    "between -90 and 90",
		"{place: {longitude: -181}}":                                   "between -180 and 180",
		"{timezone: Mars/Olympus}":                                     "time zone",
		"{timezone: ../../../etc/passwd}":                              "time zone",
		"{place: {height: 3}}":                                         "unknown field",
		"{http: {hosts: [http://x/y]}}":                                "is no host",
		"{http: {hosts: [a*b]}}":                                       "is no host",
		"{http: {private: [10.0.0.0/33]}}":                             "neither an address nor a network",
		"{hooks: [{name: a b, token: 0123456789abcdef}]}":              "no name",
		"{hooks: [{name: x, token: short}]}":                           "16 characters",
		"{hooks: [{name: x}]}":                                         "16 characters",
		"{hooks: [{name: x, token: 0123456789abcdef, token_file: f}]}": "one of them",
		"{hooks: [{name: x, token: 0123456789abcdef}, {name: x, token: 0123456789abcdef}]}": "twice",
	} {
		if _, err := config.Parse("gatehouse.yaml", []byte("rules: "+text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", text, err, want)
		}
	}
}
