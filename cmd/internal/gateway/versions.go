package gateway

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/gatehouse/gatehouse/cmd/internal/versions"
	"github.com/gatehouse/gatehouse/rules"
)

// keepVersion keeps the folder of rules as a version, if a load with that error brought
// anything of it into force that is not in the newest version. What goes wrong with it is
// told and hinders nothing.
func (g *Gateway) keepVersion(ctx context.Context, folder string, loaded error) {
	if g.opt.Data == "" {
		return
	}
	var broken []string
	for _, err := range each(loaded) {
		var file *rules.Error
		if !errors.As(err, &file) {
			return // nothing came into force
		}
		if len(broken) == 0 || broken[len(broken)-1] != file.File {
			broken = append(broken, file.File)
		}
	}
	err := versions.Change(ctx, filepath.Join(g.opt.Data, versions.Folder), func(kept *versions.Versions) error {
		files, err := versions.Read(folder)
		if err != nil {
			return err
		}
		v, err := kept.Save(files, time.Now(), broken)
		if v != nil {
			g.opt.Log.Info("rules kept", "version", v.Number, "files", len(v.Files))
		}
		return err
	})
	if err != nil {
		g.opt.Log.Warn("this version of the rules is not kept", "error", err)
	}
}
