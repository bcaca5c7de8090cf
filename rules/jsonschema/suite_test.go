package jsonschema_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/rules/jsonschema"
)

// remotes is where the suite wants its files in testdata/remotes.
const remotes = "http://localhost:1234/"

// TestSuite is the JSON Schema Test Suite: see testdata/README.md.
func TestSuite(t *testing.T) {
	for _, draft := range []string{"draft7", "draft2020-12"} {
		files, err := filepath.Glob("testdata/" + draft + "/*.json")
		if err != nil || len(files) < 30 {
			t.Fatalf("%d files of %s (%v)", len(files), draft, err)
		}
		for _, file := range files {
			t.Run(draft+"/"+strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) { suite(t, draft, file) })
		}
	}
}

func suite(t *testing.T, draft, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := jsonschema.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range groups.([]any) {
		group := group.(map[string]any)
		doc := group["schema"]
		if m, ok := doc.(map[string]any); ok && m["$schema"] == nil && draft == "draft7" {
			m["$schema"] = "http://json-schema.org/draft-07/schema#"
		}
		schema, err := jsonschema.Compile("rules:///test.json", doc, loadRemote)
		if err != nil {
			if strings.Contains(err.Error(), "json-schema.org") { // the schemas of schemas are not here
				continue
			}
			t.Errorf("%s: %v", group["description"], err)
			continue
		}
		for _, test := range group["tests"].([]any) {
			test := test.(map[string]any)
			if err := schema.Validate(test["data"]); (err == nil) != test["valid"] {
				t.Errorf("%s: %s: %v", group["description"], test["description"], err)
			}
		}
	}
}

func loadRemote(address string) (any, error) {
	name, ok := strings.CutPrefix(address, remotes)
	if !ok {
		return nil, fmt.Errorf("%s: %w", address, fs.ErrNotExist)
	}
	text, err := os.ReadFile("testdata/remotes/" + name)
	if err != nil {
		return nil, err
	}
	return jsonschema.Decode(text)
}
