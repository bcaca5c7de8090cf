package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const pymodbusPeer = "../../drivers/modbus/testdata/pymodbus_server.py"

// plcCertificate writes a certificate of 127.0.0.1 that is its own authority, for both sides.
func plcCertificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "plc"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "plc.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	writeFile(t, filepath.Join(dir, "plc.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: plain})))
}

// listening starts a pymodbus server and waits until it accepts connections.
func listening(t *testing.T, kind string, args ...string) (address string) {
	t.Helper()
	port := freePort(t)
	start(t, debianPython, append([]string{pymodbusPeer, kind, port}, args...)...)
	address = "127.0.0.1:" + port
	eventually(t, "pymodbus listens", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return address
}

// Every way that a device file knows is a way of the tools that ask a device itself, and
// the device file that a scan prints leads there.
func TestDeviceToolsBehindAnAddress(t *testing.T) {
	dir := t.TempDir()
	plcCertificate(t, dir)
	cert, key := filepath.Join(dir, "plc.pem"), filepath.Join(dir, "plc.key")
	files := "--ca " + cert + " --certificate " + cert + " --key " + key
	for kind, flags := range map[string]string{
		"tls":       "--tls " + listening(t, "tls", cert, key, cert) + " " + files,
		"rtu_tcp":   "--rtu-tcp " + listening(t, "rtu_tcp"),
		"ascii_tcp": "--ascii-tcp " + listening(t, "ascii_tcp"),
	} {
		t.Run(kind, func(t *testing.T) {
			flags += " --timeout 5s"
			for _, s := range []said{
				{"device read holding:3 coil:3 " + flags, true, `coil:3 +true\s+holding:3 +22\s`},
				{"device write --unit 2 holding:5 4660 " + flags, true, `holding:5 +4660`},
				{"device raw --unit 2 03 0005 0001 " + flags, true, `^03 02 12 34\n`},
				{"device read holding:3 --ca plc.pem --port /dev/x", false, `--ca is for --tls`},
				{"device read holding:3 --baud 9600 " + flags, false, `--baud is for --port`},
			} {
				s.check(t)
			}
			out, code := run(t, "", binary, strings.Fields("device scan --units 1-2 "+flags)...)
			_, file, found := strings.Cut(out, "# unit 2: ")
			if code != 0 || !found || !regexp.MustCompile(`unit 1: Pymodbus Peer`).MatchString(out) {
				t.Fatalf("exit code %d, want units 1 and 2:\n%s", code, out)
			}
			if !strings.Contains(file, "\n"+kind+": ") {
				t.Errorf("the device file does not lead to %s:\n%s", kind, file)
			}
			place := t.TempDir()
			writeFile(t, filepath.Join(place, "gatehouse.yaml"), "devices: {folder: devices}\n")
			writeFile(t, filepath.Join(place, "devices", "plc.yaml"), file[strings.Index(file, "\n"):])
			said{"check --config " + place + "/gatehouse.yaml", true, "ok"}.check(t)
		})
	}
	said{"device read holding:3 --tls 127.0.0.1:" + freePort(t) + " --ca " + dir + "/no.pem", false, `no.pem`}.check(t)
}

// A device behind TLS that shows a certificate of nobody we trust is not asked.
func TestDeviceToolsTrustNobodyBehindTLS(t *testing.T) {
	dir := t.TempDir()
	plcCertificate(t, dir)
	cert, key := filepath.Join(dir, "plc.pem"), filepath.Join(dir, "plc.key")
	address := listening(t, "tls", cert, key, cert)
	said{"device read holding:3 --tls " + address, false, `certificate signed by unknown authority`}.check(t)
	said{"device raw 03 0000 0001 --server-name plc --ca " + cert + " --tls " + address, false, `not plc|for plc|certificate`}.check(t)
}

// In ASCII mode a line is read, scanned and told of as in RTU mode.
func TestDeviceToolsInASCIIMode(t *testing.T) {
	theirEnd, ourEnd := ptys(t)
	start(t, debianPython, pymodbusPeer, "ascii", theirEnd)
	line := " --timeout 5s --mode ascii --port " + ourEnd
	eventually(t, "the server answers", func() bool {
		_, code := run(t, "", binary, strings.Fields("device read --unit 2 holding:0"+line)...)
		return code == 0
	})
	for _, s := range []said{
		{"device read --unit 2 --data-bits 8 --parity none holding:3" + line, true, `holding:3 +23\s`},
		{"device raw --unit 2 03 0003 0001" + line, true, `^03 02 00 17\n`},
		{
			"device scan --units 2" + line, true,
			`12 settings of the line.*unit 2 at 9600 baud, parity even, 7 data bits, 1 stop bits: Pymodbus Peer.*` +
				`serial: \{port: "\S+", mode: "ascii", baud: 9600, parity: "even", data_bits: 7, stop_bits: 1\}\nunit: 2\n`,
		},
		{"device read holding:3 --mode asci --port " + ourEnd, false, `--mode must be rtu or ascii, not "asci"`},
		{"device read holding:3 --data-bits 6" + line, false, `--data-bits must be 7 or 8, not 6`},
		{"device read holding:3 --data-bits 7 --port " + ourEnd, false, `only --mode ascii has others`},
	} {
		s.check(t)
	}
}
