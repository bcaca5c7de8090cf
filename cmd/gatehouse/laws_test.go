package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The sizes beyond which nobody reads on, in lines.
const (
	longestFile         = 600
	longestTestFile     = 1000
	longestFunction     = 80
	longestTestFunction = 160 // a table of cases is one function
)

// vagueNames say nothing of what is inside, so everything ends up there.
var vagueNames = []string{"util", "utils", "common", "helper", "helpers", "defs", "lib", "libs", "misc"}

// workplacePath finds absolute paths of the place where somebody worked. It is
// put together from parts so that this file keeps the law.
var workplacePath = regexp.MustCompile(`(^|[^\w.-])/` + `work/`)

func TestLawsOfFiles(t *testing.T) {
	names := projectFiles(t)
	if len(names) < 20 {
		t.Fatalf("the laws looked at %d files, so they looked in the wrong place", len(names))
	}
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join("../..", name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, and not yet committed
		}
		if err != nil {
			t.Errorf("cannot read %q: %v", name, err)
			continue
		}
		for _, breach := range checkFile(name, content) {
			t.Error(breach)
		}
	}
}

// projectFiles names every file that git follows or would follow, relative to
// the root of the project.
func projectFiles(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cannot list the files of the project: %v", err)
	}
	names := strings.Split(strings.TrimRight(string(out), "\x00"), "\x00")
	slices.Sort(names)
	return slices.Compact(names)
}

// checkFile returns one sentence for every law that the file breaks.
func checkFile(name string, content []byte) []string {
	breaches := checkFolders(name)
	for i, line := range bytes.Split(content, []byte("\n")) {
		if workplacePath.Match(line) {
			breaches = append(breaches, fmt.Sprintf("%s:%d: mentions an absolute path of a workplace", name, i+1))
		}
	}
	if path.Ext(name) == ".go" && !strings.HasSuffix(name, ".pb.go") {
		breaches = append(breaches, checkGo(name, content)...)
	}
	return breaches
}

func checkFolders(name string) []string {
	var breaches []string
	for folder := range strings.SplitSeq(path.Dir(name), "/") {
		if slices.Contains(vagueNames, folder) {
			breaches = append(breaches, fmt.Sprintf("%s: a folder named %q says nothing of what is inside", name, folder))
		}
	}
	return breaches
}

func checkGo(name string, content []byte) []string {
	var breaches []string
	fileLimit, functionLimit := longestFile, longestFunction
	if strings.HasSuffix(name, "_test.go") {
		fileLimit, functionLimit = longestTestFile, longestTestFunction
	}
	if lines := bytes.Count(content, []byte("\n")); lines > fileLimit {
		breaches = append(breaches, fmt.Sprintf("%s: %d lines, the limit is %d", name, lines, fileLimit))
	}
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, content, parser.SkipObjectResolution)
	if err != nil {
		return append(breaches, fmt.Sprintf("cannot parse: %v", err))
	}
	if slices.Contains(vagueNames, strings.TrimSuffix(file.Name.Name, "_test")) {
		breaches = append(breaches, fmt.Sprintf("%s: a package named %q says nothing of what is inside", name, file.Name.Name))
	}
	ast.Inspect(file, func(node ast.Node) bool {
		if breach := checkFunction(files, node, functionLimit); breach != "" {
			breaches = append(breaches, breach)
		}
		return true
	})
	return breaches
}

// checkFunction looks at declarations and literals of functions and at nothing
// else; "" means that there is no breach.
func checkFunction(files *token.FileSet, node ast.Node, limit int) string {
	name := "a function literal"
	switch function := node.(type) {
	case *ast.FuncLit:
	case *ast.FuncDecl:
		name = function.Name.Name
		if name == "init" && function.Recv == nil {
			return fmt.Sprintf("%s: func init: start things where they are chosen", files.Position(node.Pos()))
		}
	default:
		return ""
	}
	lines := files.Position(node.End()).Line - files.Position(node.Pos()).Line + 1
	if lines <= limit {
		return ""
	}
	return fmt.Sprintf("%s: %s has %d lines, the limit is %d", files.Position(node.Pos()), name, lines, limit)
}

func TestLawsOfFilesNoticeBreaches(t *testing.T) {
	function := func(lines int) string {
		return "package p\n\nfunc long() {\n" + strings.Repeat("\tprintln()\n", lines-2) + "}\n"
	}
	file := func(lines int) string {
		return "package p\n" + strings.Repeat("\n", lines-1)
	}
	cases := []struct {
		behaviour, name, content string
		want                     []string
	}{
		{"a function of 80 lines is allowed", "p/p.go", function(80), nil},
		{
			"a function of 81 lines is not", "p/p.go", function(81),
			[]string{"p/p.go:3:1: long has 81 lines, the limit is 80"},
		},
		{"a test's table may be longer", "p/p_test.go", function(160), nil},
		{
			"a test's table may not be endless", "p/p_test.go", function(161),
			[]string{"p/p_test.go:3:1: long has 161 lines, the limit is 160"},
		},
		{
			"a function literal is a function", "p/p.go",
			"package p\n\nvar f = func() {\n" + strings.Repeat("\tprintln()\n", 79) + "}\n",
			[]string{"p/p.go:3:9: a function literal has 81 lines, the limit is 80"},
		},
		{"a file of 600 lines is allowed", "p/p.go", file(600), nil},
		{"a file of 601 lines is not", "p/p.go", file(601), []string{"p/p.go: 601 lines, the limit is 600"}},
		{"a test of 1,000 lines is allowed", "p/p_test.go", file(1000), nil},
		{"a test of 1,001 lines is not", "p/p_test.go", file(1001), []string{"p/p_test.go: 1001 lines, the limit is 1000"}},
		{"generated protocol code may be long", "p/p.pb.go", file(5000), nil},
		{"only Go files are measured", "docs/p.md", file(5000), nil},
		{
			"func init is not allowed", "p/p.go", "package p\n\nfunc init() {}\n",
			[]string{"p/p.go:3:1: func init: start things where they are chosen"},
		},
		{"a method named init is", "p/p.go", "package p\n\ntype t int\n\nfunc (t) init() {}\n", nil},
		{
			"a vague folder is not allowed", "broker/util/p.go", "package p\n",
			[]string{`broker/util/p.go: a folder named "util" says nothing of what is inside`},
		},
		{
			"a vague package is not allowed", "broker/p.go", "package helpers\n",
			[]string{`broker/p.go: a package named "helpers" says nothing of what is inside`},
		},
		{
			"a path of the workplace is not allowed", "README.md", "one\nsee /" + "work/main\n",
			[]string{"README.md:2: mentions an absolute path of a workplace"},
		},
		{"a path that only ends like one is", "README.md", "docs/frame" + "work/main /net" + "work/main\n", nil},
		{
			"a file that does not parse is named", "p/p.go", "package 1\n",
			[]string{"cannot parse: p/p.go:1:9: expected 'IDENT', found 1"},
		},
	}
	for _, c := range cases {
		t.Run(c.behaviour, func(t *testing.T) {
			if diff := cmp.Diff(c.want, checkFile(c.name, []byte(c.content))); diff != "" {
				t.Errorf("breaches (-want +got):\n%s", diff)
			}
		})
	}
}
