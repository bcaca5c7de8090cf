package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
)

// Options says what goes into one package. All fields are needed.
type Options struct {
	Architecture string    // in Debian's words: amd64, arm64, armhf
	Version      string    // in Debian's words
	Binary       string    // the program, built for the architecture
	Files        string    // the folder of the unit, the configuration and the scripts
	Documents    string    // the folder of changelog.gz and third-party-licenses.gz
	Built        time.Time // the time of every file in the package
	Out          string    // the folder to write to
}

// Build writes OUT/gatehouse_VERSION_ARCHITECTURE.deb and returns its name.
func Build(o Options) (string, error) {
	info := nfpm.WithDefaults(o.info())
	if err := nfpm.Validate(info); err != nil {
		return "", fmt.Errorf("cannot describe the package: %w", err)
	}
	name := filepath.Join(o.Out, fmt.Sprintf("gatehouse_%s_%s.deb", o.Version, o.Architecture))
	file, err := os.Create(name)
	if err != nil {
		return "", fmt.Errorf("cannot create the package: %w", err)
	}
	if err := deb.Default.Package(info, file); err != nil {
		_ = file.Close()    // the error at hand says more
		_ = os.Remove(name) // half a package is no use to anybody
		return "", fmt.Errorf("cannot write package %q: %w", name, err)
	}
	if err := file.Close(); err != nil {
		return "", fmt.Errorf("cannot write package %q: %w", name, err)
	}
	return name, nil
}

func (o Options) info() *nfpm.Info {
	return &nfpm.Info{
		Name:          "gatehouse",
		Arch:          o.Architecture,
		Platform:      "linux",
		Version:       o.Version,
		VersionSchema: "none", // it is Debian's already
		Section:       "net",
		Priority:      "optional",
		Maintainer:    "The Gatehouse authors <gatehouse@users.noreply.github.com>",
		Homepage:      "https://github.com/gatehouse/gatehouse",
		License:       "Apache-2.0",
		Description: "MQTT broker, rules engine and device gateway in one program\n" +
			"Devices on serial lines and Modbus become MQTT topics; rules in YAML and\n" +
			"JavaScript act on them, and write back to the devices.",
		MTime: o.Built,
		Overridables: nfpm.Overridables{
			Depends:  []string{"init-system-helpers", "passwd"},
			Contents: o.contents(),
			Scripts: nfpm.Scripts{
				PostInstall: o.file("postinst"),
				PreRemove:   o.file("prerm"),
				PostRemove:  o.file("postrm"),
			},
			// Every dpkg reads gzip; xz saves a third and takes ten times as long.
			Deb: nfpm.Deb{Compression: "gzip"},
		},
	}
}

// contents lists every file and folder with its mode, so that the umask of
// whoever builds has no say.
func (o Options) contents() files.Contents {
	const documents = "/usr/share/doc/gatehouse/"
	return files.Contents{
		regular(o.Binary, "/usr/bin/gatehouse", 0o755),
		regular(o.file("gatehouse.service"), "/usr/lib/systemd/system/gatehouse.service", 0o644),
		{
			Source: o.file("gatehouse.yaml"), Destination: "/etc/gatehouse/gatehouse.yaml",
			Type: files.TypeConfig, FileInfo: &files.ContentFileInfo{Mode: 0o640},
		},
		folder("/etc/gatehouse", 0o755),
		folder("/etc/gatehouse/rules", 0o750),
		folder("/etc/gatehouse/devices", 0o750),
		folder("/etc/gatehouse/plugins", 0o750),
		folder("/var/lib/gatehouse", 0o750),
		regular(o.file("copyright"), documents+"copyright", 0o644),
		regular(filepath.Join(o.Documents, changelogName), documents+changelogName, 0o644),
		regular(filepath.Join(o.Documents, licensesName), documents+licensesName, 0o644),
	}
}

func (o Options) file(name string) string {
	return filepath.Join(o.Files, name)
}

func regular(source, destination string, mode os.FileMode) *files.Content {
	return &files.Content{
		Source: source, Destination: destination,
		Type: files.TypeFile, FileInfo: &files.ContentFileInfo{Mode: mode},
	}
}

func folder(destination string, mode os.FileMode) *files.Content {
	return &files.Content{
		Destination: destination,
		Type:        files.TypeDir, FileInfo: &files.ContentFileInfo{Mode: mode},
	}
}
