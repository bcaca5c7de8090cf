package drivertest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// NodeModules installs packages from npm, "jsmodbus@5.0.0", once a machine, and returns the
// folder that they are in. Where that is not possible the test is skipped; but where
// continuous integration has installed what is needed (DEPS=installed) it fails.
func NodeModules(t *testing.T, packages ...string) string {
	t.Helper()
	missing := t.Skipf
	if os.Getenv("DEPS") == "installed" {
		missing = t.Fatalf
	}
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			missing("%s is needed (packages nodejs and npm): %v", program, err)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	folder := filepath.Join(cache, "gatehouse-test", strings.Join(packages, "-"))
	found := filepath.Join(folder, "node_modules")
	if _, err := os.Stat(found); err == nil {
		return found
	}
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(folder), "new-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fresh) //nolint:errcheck // it has been renamed
	args := append([]string{"install", "--prefix", fresh, "--ignore-scripts", "--no-audit", "--no-fund", "--no-save"}, packages...)
	if out, err := exec.CommandContext(t.Context(), "npm", args...).CombinedOutput(); err != nil {
		missing("cannot install %q with npm: %v\n%s", packages, err, out)
	}
	if err := os.Rename(fresh, folder); err != nil && !os.IsExist(err) { //nolint:forbidigo // a cache of tests; another one may have been faster
		t.Fatal(err)
	}
	return found
}
