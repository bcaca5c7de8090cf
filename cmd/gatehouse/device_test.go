package main_test

import (
	"os"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/drivers/modbus"
	"github.com/gatehouse/gatehouse/drivers/profiles"
)

// The documentation names every profile that there is.
func TestDocumentationNamesTheProfiles(t *testing.T) {
	text, err := os.ReadFile("../../docs/devices.md")
	if err != nil {
		t.Fatal(err)
	}
	all, err := modbus.Profiles(profiles.FS())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if !strings.Contains(string(text), "`"+p.Name+"`") {
			t.Errorf("docs/devices.md does not name %s", p.Name)
		}
	}
}
