package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// tagged finds tags in a comment.
var tagged = regexp.MustCompile(`\[(MQTT3?-\d+\.\d+\.\d+-\d+)\]`)

// tags are the places that name each statement, sorted.
type tags struct {
	code  map[string][]string
	tests map[string][]string
}

// scan finds the tags below broker: in comments of Go files, and in what comes
// before the first file of a scenario.
func scan(root string) (*tags, error) {
	found := &tags{code: make(map[string][]string), tests: make(map[string][]string)}
	top := filepath.Join(root, "broker")
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		switch {
		case d.IsDir() && name == "brokertest/protocol":
			return fs.SkipDir
		case strings.HasSuffix(name, "_test.go"):
			return scanGo(path, name, found.tests)
		case strings.HasSuffix(name, ".go"):
			return scanGo(path, name, found.code)
		case strings.HasSuffix(name, ".txtar"):
			return scanScenario(path, found.tests)
		}
		return nil
	})
	for _, places := range []map[string][]string{found.code, found.tests} {
		for tag := range places {
			slices.Sort(places[tag])
			places[tag] = slices.Compact(places[tag])
		}
	}
	return found, err
}

func scanScenario(path string, places map[string][]string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	comment, _, _ := strings.Cut(string(data), "\n-- ")
	place := strings.TrimSuffix(filepath.Base(path), ".txtar")
	for _, m := range tagged.FindAllStringSubmatch(comment, -1) {
		places[m[1]] = append(places[m[1]], place)
	}
	return nil
}

func scanGo(path, name string, places map[string][]string) error {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", name, err)
	}
	for _, group := range file.Comments {
		for _, c := range group.List {
			for _, m := range tagged.FindAllStringSubmatch(c.Text, -1) {
				place := name
				if where := enclosing(set, file, c.Pos()); where != "" {
					place += " " + where
				}
				places[m[1]] = append(places[m[1]], place)
			}
		}
	}
	return nil
}

// enclosing names the declaration that a position is in, or in whose comment, or on
// whose last line.
func enclosing(set *token.FileSet, file *ast.File, at token.Pos) string {
	for _, d := range file.Decls {
		from := d.Pos()
		var doc *ast.CommentGroup
		var name string
		switch d := d.(type) {
		case *ast.FuncDecl:
			doc, name = d.Doc, funcName(d)
		case *ast.GenDecl:
			doc, name = d.Doc, specName(set, d, at)
		}
		if doc != nil {
			from = doc.Pos()
		}
		if from <= at && (at <= d.End() || set.Position(at).Line == set.Position(d.End()).Line) {
			return name
		}
	}
	return ""
}

func funcName(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return d.Name.Name
	}
	t := d.Recv.List[0].Type
	if p, ok := t.(*ast.StarExpr); ok {
		t = p.X
	}
	if i, ok := t.(*ast.IndexExpr); ok {
		t = i.X
	}
	if id, ok := t.(*ast.Ident); ok {
		return id.Name + "." + d.Name.Name
	}
	return d.Name.Name
}

// specName names the constant, variable or type of a declaration that is on the line
// of a position, or else the first one.
func specName(set *token.FileSet, d *ast.GenDecl, at token.Pos) string {
	first := ""
	for _, spec := range d.Specs {
		name := ""
		switch s := spec.(type) {
		case *ast.ValueSpec:
			name = s.Names[0].Name
		case *ast.TypeSpec:
			name = s.Name.Name
		}
		if first == "" {
			first = name
		}
		if line := set.Position(at).Line; set.Position(spec.Pos()).Line <= line && line <= set.Position(spec.End()).Line {
			return name
		}
	}
	return first
}
