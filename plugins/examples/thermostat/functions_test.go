package main

import (
	"encoding/json"
	"testing"

	"github.com/gatehouse/gatehouse/plugins/sdk"
)

// The values are those of the tables that the formula is taken from.
func TestDewPoint(t *testing.T) {
	for _, c := range []struct {
		celsius, percent string
		want             any
	}{
		{"20", "100", 20.0},
		{"20", "50", 9.3},
		{"25", "60", 16.7},
		{"0", "80", -3.0},
		{"20", "0", nil},
		{`"warm"`, "50", nil},
	} {
		got, err := dewPoint(t.Context(), sdk.Args{json.RawMessage(c.celsius), json.RawMessage(c.percent)})
		if got != c.want || (err == nil) != (c.want != nil) {
			t.Errorf("dew_point(%s, %s) = %v, %v, want %v", c.celsius, c.percent, got, err, c.want)
		}
	}
	if _, err := dewPoint(t.Context(), sdk.Args{json.RawMessage("1")}); err == nil {
		t.Error("one argument is enough")
	}
}
