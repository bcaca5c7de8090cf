package gateway

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/cmd/internal/versions"
)

// Former versions of a file are those in which it was right, back to when it came.
func TestFormerVersionsOfAFile(t *testing.T) {
	data := t.TempDir()
	if err := os.Mkdir(filepath.Join(data, versions.Folder), 0o700); err != nil {
		t.Fatal(err)
	}
	kept := versions.Open(filepath.Join(data, versions.Folder))
	for n, v := range []struct {
		files  map[string][]byte
		broken []string
	}{
		{map[string][]byte{"a.yaml": []byte("of another file")}, nil},
		{map[string][]byte{"b.yaml": []byte("b")}, nil},
		{map[string][]byte{"a.yaml": []byte("first"), "b.yaml": []byte("b")}, nil},
		{map[string][]byte{"a.yaml": []byte("second"), "b.yaml": []byte("b")}, nil},
		{map[string][]byte{"a.yaml": []byte("wrong"), "b.yaml": []byte("b")}, []string{"a.yaml"}},
	} {
		if _, err := kept.Save(v.files, time.Now(), v.broken); err != nil {
			t.Fatalf("version %d: %v", n+1, err)
		}
	}
	g := &Gateway{opt: Options{Data: data, Log: slog.New(slog.DiscardHandler)}}
	folder, ok := g.ruleFolder(t.TempDir()).(*keptFolder)
	if !ok {
		t.Fatal("the folder knows no versions")
	}
	former := func(name string) (all []string) {
		for texts := range folder.Former(name) {
			all = append(all, string(texts[name])+" with "+string(texts["b.yaml"]))
		}
		return all
	}
	if diff := cmp.Diff([]string{"second with b", "first with b"}, former("a.yaml")); diff != "" {
		t.Error(diff)
	}
	if got := former("c.yaml"); got != nil {
		t.Errorf("a file that never was has %q", got)
	}
}
