package main

import (
	"regexp"
	"strings"
	"time"
)

// described is what `git describe --tags --always` prints at a tag
// vMAJOR.MINOR.PATCH[-PRE] or some commits after one.
var described = regexp.MustCompile(`^v?(\d+\.\d+\.\d+)(?:-([A-Za-z][0-9A-Za-z.]*))?(?:-(\d+)-g([0-9a-f]+))?$`)

// notInVersion is what Debian does not allow in a version, and "-", which would
// begin the Debian revision.
var notInVersion = regexp.MustCompile(`[^0-9A-Za-z.+~]+`)

// debianVersion words a version so that dpkg orders versions as they came: a
// pre-release before its release, commits after a tag behind it. Where there is
// no tag, the day orders them, and any tag is newer.
func debianVersion(text string, built time.Time) string {
	text, dirty := strings.CutSuffix(text, "-dirty")
	suffix := ""
	if dirty {
		suffix = "+dirty"
	}
	parts := described.FindStringSubmatch(text)
	if parts == nil {
		name := strings.Trim(notInVersion.ReplaceAllString(text, "."), ".")
		return "0.0.0~" + built.Format("20060102") + "." + name + suffix
	}
	version := parts[1]
	if pre := parts[2]; pre != "" {
		version += "~" + pre
	}
	if commits, hash := parts[3], parts[4]; commits != "" {
		version += "+" + commits + ".g" + hash
	}
	return version + suffix
}
