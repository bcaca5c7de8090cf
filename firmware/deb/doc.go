// Deb builds the Debian packages of the gateway, one an architecture, from
// binaries that are built already. The same binaries, version and
// SOURCE_DATE_EPOCH give the same bytes.
//
//	go run -C firmware/deb . -version v1.2.3 -binaries "$PWD/dist" -out "$PWD/dist"
//
// reads dist/gatehouse-linux-{amd64,arm64,arm} and writes
// dist/gatehouse_1.2.3_{amd64,arm64,armhf}.deb. What goes into a package beside
// the binary is in files/: the hardened systemd unit, the configuration as
// shipped, and the scripts that dpkg runs. `make deb` calls it.
package main
