package main

import "testing"

func TestDebianVersion(t *testing.T) {
	cases := []struct{ behaviour, described, want string }{
		{"a tag is itself", "v1.2.3", "1.2.3"},
		{"commits after a tag are newer than it", "v1.2.3-4-gabcdef0", "1.2.3+4.gabcdef0"},
		{"a pre-release is older than its release", "v1.2.3-rc.1", "1.2.3~rc.1"},
		{"commits after a pre-release", "v1.2.3-rc.1-4-gabcdef0", "1.2.3~rc.1+4.gabcdef0"},
		{"changes that are not committed show", "v1.2.3-dirty", "1.2.3+dirty"},
		{"without a tag the day orders", "abcdef0", "0.0.0~20261122.abcdef0"},
		{"without a tag, changed", "abcdef0-dirty", "0.0.0~20261122.abcdef0+dirty"},
		{"what Debian does not allow is left out", "my_branch/x", "0.0.0~20261122.my.branch.x"},
	}
	for _, c := range cases {
		t.Run(c.behaviour, func(t *testing.T) {
			if got := debianVersion(c.described, day); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestEpoch(t *testing.T) {
	if got, err := epoch("1795348800"); err != nil || !got.Equal(day) {
		t.Errorf("%v, %v, want %v", got, err, day)
	}
	if _, err := epoch(""); err == nil {
		t.Error("a missing time was accepted, so packages would differ")
	}
}
