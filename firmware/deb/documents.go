package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// The names of the compressed documents.
const (
	changelogName = "changelog.gz"
	licensesName  = "third-party-licenses.gz"
)

// documents is a temporary folder of what is made for the package from the
// sources: the change log, and the licenses of all that is linked in.
type documents struct{ folder string }

// newDocuments makes the documents of the module in root.
func newDocuments(ctx context.Context, root string) (documents, error) {
	folder, err := os.MkdirTemp("", "gatehouse-deb-")
	if err != nil {
		return documents{}, fmt.Errorf("cannot make documents: %w", err)
	}
	d := documents{folder}
	if err := d.make(ctx, root); err != nil {
		d.remove()
		return documents{}, err
	}
	return d, nil
}

func (d documents) remove() {
	_ = os.RemoveAll(d.folder) // what is left in the temporary folder harms nobody
}

func (d documents) make(ctx context.Context, root string) error {
	changelog, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md"))
	if err != nil {
		return fmt.Errorf("cannot read the change log: %w", err)
	}
	if err := compress(filepath.Join(d.folder, changelogName), changelog); err != nil {
		return err
	}
	licenses, err := thirdPartyLicenses(ctx, root)
	if err != nil {
		return err
	}
	return compress(filepath.Join(d.folder, licensesName), licenses)
}

// compress writes no name and no time into the file, as gzip -n.
func compress(name string, content []byte) error {
	var buffer bytes.Buffer
	writer, err := gzip.NewWriterLevel(&buffer, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := writer.Write(content); err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return err
	}
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	if _, err := file.Write(buffer.Bytes()); err != nil {
		_ = file.Close() // the error of the write says more
		return err
	}
	return file.Close()
}

// thirdPartyLicenses repeats the license files of every module that the program
// links, Go's own first. A module without one is an error.
func thirdPartyLicenses(ctx context.Context, root string) ([]byte, error) {
	goroot, err := goCommand(ctx, root, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	modules, err := goCommand(ctx, root, "list", "-deps",
		"-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}{{end}}", "./cmd/gatehouse")
	if err != nil {
		return nil, err
	}
	lines := strings.Split(modules, "\n")
	slices.Sort(lines)
	lines = slices.Insert(slices.Compact(lines), 0, "The Go programming language\t"+goroot)
	var text bytes.Buffer
	for _, line := range lines {
		name, folder, found := strings.Cut(line, "\t")
		if !found {
			continue // a package of the standard library has no module
		}
		if err := appendLicenses(&text, name, folder); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}

func goCommand(ctx context.Context, root string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("cannot run %q: %w: %s", cmd.Args, err, bytes.TrimSpace(complaint.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

// licenseWords begin the names of the files that carry license terms.
var licenseWords = []string{"LICENSE", "LICENCE", "COPYING", "NOTICE", "PATENTS"}

func appendLicenses(text *bytes.Buffer, name, folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("cannot look for the license of %s: %w", name, err)
	}
	found := false
	for _, entry := range entries {
		isLicense := slices.ContainsFunc(licenseWords, func(word string) bool {
			return strings.HasPrefix(strings.ToUpper(entry.Name()), word)
		})
		if entry.IsDir() || !isLicense {
			continue
		}
		content, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		if err != nil {
			return fmt.Errorf("cannot read the license of %s: %w", name, err)
		}
		found = true
		fmt.Fprintf(text, "==== %s: %s\n\n%s\n\n", name, entry.Name(), bytes.TrimSpace(content))
	}
	if !found {
		return fmt.Errorf("%s has no license file", name)
	}
	return nil
}
