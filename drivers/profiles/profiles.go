package profiles

import (
	"embed"
	"io/fs"
)

//go:embed *.yaml
var files embed.FS

// FS has the profiles: one NAME.yaml a profile.
func FS() fs.FS { return files }
