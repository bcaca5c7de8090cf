package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// modulePath is the prefix of every package of ours.
const modulePath = "github.com/gatehouse/gatehouse"

// importLaw says what the packages under a pattern may import. Patterns and
// lists are relative to the module: "broker/store/*" is one level, "cmd/..." is
// the folder and all below it, "..." is everything of ours.
type importLaw struct {
	packages []string
	ours     []string // of ours they may import; nothing else
	outside  []string // of the outside, by path prefix; nil is anything that libraryLaws permits
	never    []string // of the standard library and the outside, by path prefix
}

// none is the outside of a package that lives on the standard library alone.
var none = []string{}

// importLaws is the table "May import / never" of the architecture. The first
// law with a matching pattern rules; a package without a law is an error.
var importLaws = []importLaw{
	{packages: []string{"broker/message", "broker/topic"}, outside: none},
	{packages: []string{"broker/packet"}, ours: []string{"broker/message"}, outside: none},
	{packages: []string{"plugins/wire"}, outside: []string{"google.golang.org/protobuf", "google.golang.org/grpc"}},

	{packages: []string{"broker/store/durable"}, outside: none},
	{packages: []string{"broker/store/durable/crashfs"}, ours: []string{"broker/store/durable"}, outside: none},
	{packages: []string{"broker/store"}, ours: []string{"broker/message"}, outside: none},
	{
		packages: []string{"broker/store/mem", "broker/store/disk"},
		ours:     []string{"broker/message", "broker/store", "broker/store/durable"},
	},
	{packages: []string{"broker/store/history"}, ours: []string{"broker/message", "broker/topic", "broker/store"}, outside: none},
	{packages: []string{"broker/store/storetest"}, ours: []string{"broker/message", "broker/store"}},
	{
		packages: []string{"broker"},
		ours:     []string{"broker/message", "broker/topic", "broker/packet", "broker/store"},
		never:    []string{"net/http"},
	},
	{
		packages: []string{"broker/auth", "broker/listen", "broker/bridge"},
		ours:     []string{"broker", "broker/message", "broker/topic", "broker/packet"},
	},
	{packages: []string{"broker/brokertest/protocol"}, outside: none},
	{
		packages: []string{"broker/brokertest/ledger"},
		ours:     []string{"broker/message", "broker/topic", "broker/packet"},
	},
	{
		packages: []string{"broker/brokertest/crash"},
		ours: []string{
			"broker", "broker/brokertest", "broker/brokertest/ledger", "broker/message", "broker/packet",
			"broker/store", "broker/store/durable", "broker/store/durable/crashfs",
		},
	},
	{
		packages: []string{"broker/brokertest"},
		ours:     []string{"broker", "broker/message", "broker/topic", "broker/packet", "broker/store", "broker/store/mem"},
	},

	{packages: []string{"rules"}, ours: []string{"broker/message", "broker/topic"}},
	{packages: []string{"rules/schedule"}, outside: []string{"github.com/robfig/cron"}},
	{packages: []string{"rules/jsonschema", "rules/jsonview", "rules/pieces"}, outside: none},
	{packages: []string{"rules/jsvm"}, ours: []string{"broker/message", "rules", "rules/jsonview", "rules/pieces", "rules/schedule"}},
	{packages: []string{"rules/exprlang"}, ours: []string{"broker/message", "rules", "rules/schedule", "rules/jsonschema", "rules/jsonview", "rules/pieces"}},
	{packages: []string{"rules/trial"}, ours: []string{"broker/message", "broker/topic", "rules"}},
	{packages: []string{"rules/rulestest"}, ours: []string{"broker/message", "rules", "rules/trial"}},

	{packages: []string{"drivers"}, ours: []string{"broker/message", "broker/topic"}},
	{packages: []string{"drivers/discovery"}, ours: []string{"broker/message", "drivers"}},
	{packages: []string{"drivers/modbus/linetest"}},
	{packages: []string{"drivers/drivertest"}, ours: []string{"broker/message", "broker/topic", "drivers"}},
	{packages: []string{"drivers/profiles", "scripts"}, outside: none},
	{packages: []string{"drivers/*"}, ours: []string{"drivers"}},

	// What both ends of the wire share is neither's: values to and from the wire.
	{packages: []string{"plugins/internal/codec"}, ours: []string{"drivers", "plugins/wire"}},
	{
		packages: []string{"plugins", "plugins/sdk"},
		ours:     []string{"broker/message", "drivers", "plugins/wire", "plugins/internal/codec"},
	},
	{packages: []string{"plugins/examples/..."}, ours: []string{"broker/message", "drivers", "plugins/sdk"}},

	{
		packages: []string{"cmd/internal/config"},
		ours: []string{
			"broker", "broker/message", "broker/topic", "broker/auth", "broker/listen", "broker/bridge",
			"rules", "drivers", "plugins",
		},
	},
	{packages: []string{"cmd/internal/exposition"}, outside: none},
	{packages: []string{"cmd/internal/versions"}, ours: []string{"broker/store/durable"}, outside: none},
	{packages: []string{"cmd/internal/console"}, ours: []string{"broker/message", "cmd/internal/config"}},
	{packages: []string{"cmd/internal/gateway", "cmd/gatehouse"}, ours: []string{"..."}},
	{packages: []string{"cmd/bench", "cmd/storm"}, ours: []string{"broker/message", "broker/topic", "broker/packet"}},
}

// libraryLaw names the only importers of a library, tests apart.
type libraryLaw struct {
	library   string
	importers []string
}

// suites are the packages that tests of other packages are made of.
var suites = []string{"broker/brokertest", "broker/store/storetest", "rules/rulestest", "drivers/drivertest"}

// libraryLaws keeps each foreign library behind the one package that wraps it,
// so that replacing it is a change of one folder.
var libraryLaws = []libraryLaw{
	{"github.com/expr-lang/expr", []string{"rules/exprlang"}},
	{"github.com/dop251/goja", []string{"rules/jsvm"}},
	{"github.com/robfig/cron", []string{"rules/schedule"}},
	{"github.com/evanw/esbuild", []string{"rules/jsvm"}},
	{"go.bug.st/serial", []string{"drivers/serial"}},
	{"github.com/hashicorp/go-plugin", []string{"plugins", "plugins/sdk"}},
	{"google.golang.org/grpc", []string{"plugins", "plugins/sdk", "plugins/wire", "plugins/internal/codec"}},
	{"google.golang.org/protobuf", []string{"plugins", "plugins/sdk", "plugins/wire", "plugins/internal/codec"}},
	{
		"github.com/goccy/go-yaml",
		[]string{"cmd/internal/config", "rules/exprlang", "rules/trial", "drivers", "drivers/*", "plugins"},
	},
	{"go.yaml.in", nil},
	{"gopkg.in/yaml.v2", nil},
	{"gopkg.in/yaml.v3", nil},
	{"github.com/danielgtaylor/huma", []string{"cmd/internal/console"}},
	{"github.com/prometheus", nil}, // it would initialize itself at every start
	{"github.com/spf13/cobra", []string{"cmd/..."}},
	{"github.com/coder/websocket", []string{"broker/listen", "cmd/..."}},
	// What belongs to tests alone.
	{"testing", suites},
	{"pgregory.net/rapid", suites},
	{"go.uber.org/goleak", suites},
	{"github.com/google/go-cmp", suites},
	{"github.com/eclipse/paho.golang", nil},
	{"github.com/eclipse/paho.mqtt.golang", nil},
	{"github.com/rogpeppe/go-internal", nil},
}

// importingPackage is what the law looks at; the names are those of go list.
type importingPackage struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func TestLawImports(t *testing.T) {
	var breaches []string
	for _, arch := range []string{"amd64", "arm64", "arm", "386"} {
		packages := listPackages(t, arch)
		if len(packages) < 4 {
			t.Fatalf("the law looked at %d packages, so it looked in the wrong place", len(packages))
		}
		breaches = append(breaches, checkImports(packages, importLaws, libraryLaws)...)
		breaches = append(breaches, checkDriverTests(packages)...)
	}
	slices.Sort(breaches)
	for _, breach := range slices.Compact(breaches) {
		t.Error(breach)
	}
}

// listPackages asks the go command for every package of the module.
func listPackages(t *testing.T, arch string) []importingPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cannot list the packages: %v\n%s", err, complaint.String())
	}
	var packages []importingPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p importingPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("cannot read what go list says: %v", err)
		}
		packages = append(packages, p)
	}
}

// checkImports returns one sentence for every breach, in the packages' order.
func checkImports(packages []importingPackage, laws []importLaw, libraries []libraryLaw) []string {
	var breaches []string
	for _, p := range packages {
		name := ours(p.ImportPath)
		law, found := lawOf(name, laws)
		if !found {
			breaches = append(breaches, fmt.Sprintf("%s has no law: add it to the table", name))
			continue
		}
		for _, imported := range p.Imports {
			if why := law.forbids(imported, libraries, name); why != "" {
				breaches = append(breaches, fmt.Sprintf("%s may not import %s: %s", name, imported, why))
			}
		}
	}
	return breaches
}

// checkDriverTests returns one sentence for every driver whose tests import another one:
// siblings do not know each other there either. What all need is in drivers/drivertest.
func checkDriverTests(packages []importingPackage) []string {
	var breaches []string
	for _, p := range packages {
		name := ours(p.ImportPath)
		if !matchesPattern("drivers/*", name) {
			continue
		}
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			sibling := ours(imported)
			if matchesPattern("drivers/*", sibling) && sibling != name && sibling != "drivers/drivertest" && sibling != "drivers/profiles" {
				breaches = append(breaches, fmt.Sprintf("the tests of %s may not import %s", name, imported))
			}
		}
	}
	return breaches
}

func TestLawDriverTestsNoticeBreaches(t *testing.T) {
	of := func(name string) string { return modulePath + "/" + name }
	got := checkDriverTests([]importingPackage{
		{ImportPath: of("drivers/modbus"), XTestImports: []string{of("drivers"), of("drivers/modbus"), of("drivers/modbus/linetest"), of("drivers/serial"), of("drivers/drivertest")}},
		{ImportPath: of("drivers/sim"), TestImports: []string{of("drivers/host"), "testing"}},
		{ImportPath: of("cmd/internal/gateway"), TestImports: []string{of("drivers/host")}},
	})
	want := []string{
		"the tests of drivers/modbus may not import " + of("drivers/serial"),
		"the tests of drivers/sim may not import " + of("drivers/host"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("breaches (-want +got):\n%s", diff)
	}
}

// forbids returns why the package name may not import path, "" if it may.
func (l importLaw) forbids(path string, libraries []libraryLaw, name string) string {
	if path == modulePath || strings.HasPrefix(path, modulePath+"/") {
		if !matchesAny(l.ours, ours(path)) {
			return "of ours it may import only [" + strings.Join(l.ours, " ") + "]"
		}
		return ""
	}
	if underAny(l.never, path) {
		return "the table says never"
	}
	for _, library := range libraries {
		if under(library.library, path) && !matchesAny(library.importers, name) {
			return "its only importers are [" + strings.Join(library.importers, " ") + "]"
		}
	}
	if l.outside != nil && !isStandard(path) && !underAny(l.outside, path) {
		return "of the outside it may import only [" + strings.Join(l.outside, " ") + "]"
	}
	return ""
}

func lawOf(name string, laws []importLaw) (importLaw, bool) {
	for _, law := range laws {
		if matchesAny(law.packages, name) {
			return law, true
		}
	}
	return importLaw{}, false
}

// ours is an import path of ours relative to the module, "." for its root.
func ours(path string) string {
	if path == modulePath {
		return "."
	}
	return strings.TrimPrefix(path, modulePath+"/")
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matchesPattern(pattern, name) })
}

func matchesPattern(pattern, name string) bool {
	if pattern == "..." || pattern == name {
		return true
	}
	if folder, all := strings.CutSuffix(pattern, "/..."); all {
		return under(folder, name)
	}
	folder, one := strings.CutSuffix(pattern, "/*")
	rest, below := strings.CutPrefix(name, folder+"/")
	return one && below && !strings.Contains(rest, "/")
}

func underAny(prefixes []string, path string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return under(prefix, path) })
}

func under(prefix, path string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// isStandard tells the standard library by its first element, which has no dot.
func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

func TestLawImportsNoticesBreaches(t *testing.T) {
	of := func(name string) string { return modulePath + "/" + name }
	cases := []struct {
		behaviour string
		importer  string
		imported  string
		want      []string
	}{
		{"the broker may import its leaves", "broker", of("broker/topic"), nil},
		{"the broker may import the standard library", "broker", "net", nil},
		{"the composition root may import everything of ours", "cmd/internal/gateway", of("drivers/modbus"), nil},
		{"a wrapper may import what it wraps", "rules/exprlang", "github.com/expr-lang/expr/vm", nil},
		{"a driver may decode its own file", "drivers/sim", "github.com/goccy/go-yaml", nil},
		{
			"the broker knows nothing of rules", "broker", of("rules"),
			[]string{"broker may not import " + of("rules") + ": of ours it may import only [broker/message broker/topic broker/packet broker/store]"},
		},
		{
			"the broker knows nothing of HTTP", "broker", "net/http",
			[]string{"broker may not import net/http: the table says never"},
		},
		{
			"what is forbidden is forbidden with all below it", "broker", "net/http/httptest",
			[]string{"broker may not import net/http/httptest: the table says never"},
		},
		{
			"the broker knows nothing of YAML", "broker", "github.com/goccy/go-yaml/ast",
			[]string{"broker may not import github.com/goccy/go-yaml/ast: its only importers are [cmd/internal/config rules/exprlang rules/trial drivers drivers/* plugins]"},
		},
		{
			"drivers do not import each other", "drivers/modbus", of("drivers/serial"),
			[]string{"drivers/modbus may not import " + of("drivers/serial") + ": of ours it may import only [drivers]"},
		},
		{
			"rule languages do not import each other", "rules/jsvm", of("rules/exprlang"),
			[]string{"rules/jsvm may not import " + of("rules/exprlang") + ": of ours it may import only [broker/message rules rules/jsonview rules/pieces rules/schedule]"},
		},
		{
			"a leaf imports nothing from outside", "broker/topic", "golang.org/x/sync/errgroup",
			[]string{"broker/topic may not import golang.org/x/sync/errgroup: of the outside it may import only []"},
		},
		{
			"a library stays behind its wrapper", "drivers/modbus", "go.bug.st/serial",
			[]string{"drivers/modbus may not import go.bug.st/serial: its only importers are [drivers/serial]"},
		},
		{
			"nothing that ships imports testing", "drivers/sim", "testing",
			[]string{"drivers/sim may not import testing: its only importers are [broker/brokertest broker/store/storetest rules/rulestest drivers/drivertest]"},
		},
		{
			"the program's insides stay below cmd", "plugins/sdk", of("cmd/internal/config"),
			[]string{"plugins/sdk may not import " + of("cmd/internal/config") + ": of ours it may import only [broker/message drivers plugins/wire plugins/internal/codec]"},
		},
		{
			"a package without a law is named", "broker/attic", "fmt",
			[]string{"broker/attic has no law: add it to the table"},
		},
		{
			"a star is one level", "drivers/modbus/rtu", "fmt",
			[]string{"drivers/modbus/rtu has no law: add it to the table"},
		},
	}
	for _, c := range cases {
		t.Run(c.behaviour, func(t *testing.T) {
			packages := []importingPackage{{ImportPath: of(c.importer), Imports: []string{c.imported}}}
			if diff := cmp.Diff(c.want, checkImports(packages, importLaws, libraryLaws)); diff != "" {
				t.Errorf("breaches (-want +got):\n%s", diff)
			}
		})
	}
}
