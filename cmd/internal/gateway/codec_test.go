package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/cmd/internal/config"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/jsvm"
)

// TestMain is also the script worker, and the far end of a line: tests start their own
// binary as one.
func TestMain(m *testing.M) {
	if baud := os.Getenv(linePeerEnv); baud != "" {
		if err := linePeer(baud); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 2 && os.Args[1] == "script-worker" {
		if err := jsvm.Worker(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func codecs(t *testing.T) drivers.Codec {
	t.Helper()
	if testing.Short() {
		t.Skip("an emulator cannot start this program again as a worker")
	}
	lang, err := jsvm.New(jsvm.Options{Command: []string{os.Args[0], "script-worker"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lang.Close() })
	return newCodec([]rules.Language{lang}, slog.New(slog.DiscardHandler))
}

// meter is a codec of a counter with a sum of its bytes.
const meter = `
let frames = 0
function decode(bytes) {
  if (bytes[0] !== 0xAA) return null
  if (bytes.reduce((a, b) => a + b & 255, 0) !== 0) throw new Error('the sum is wrong')
  const view = new DataView(bytes.buffer)
  return { total: view.getUint16(1) / 10, serial: view.getBigUint64(3), on: true, text: 'é', frames: ++frames, nothing: undefined, list: [1] }
}
function encode(point, value) {
  if (point === 'text') return 'SET ' + value + '\n'
  if (point === 'raw') return new Uint8Array([1, 2, value])
  if (point === 'bad') return [256]
  return [0x55, point.length, value ? 1 : 0]
}
`

func TestCodec(t *testing.T) {
	compile := codecs(t)
	open := func(t *testing.T, source string) drivers.Coder {
		t.Helper()
		c, err := compile("meter", "meter.js", source)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		return c
	}
	frame := []byte{0xAA, 0x08, 0x69, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0}
	for _, b := range frame[:11] {
		frame[11] -= b
	}
	t.Run("reads frames and remembers", func(t *testing.T) {
		c := open(t, meter)
		for i := range 3 {
			got, err := c.Decode(t.Context(), frame)
			want := map[string]string{"total": "215.3", "serial": "18446744073709551615", "on": "true", "text": "é", "frames": fmt.Sprint(i + 1), "list": "[1]"}
			if err != nil || len(got) != len(want) {
				t.Fatalf("got %v, %v", got, err)
			}
			for name, v := range want {
				if got[name].String() != v {
					t.Errorf("%s: want %s, got %s", name, v, got[name])
				}
			}
			if got["serial"].Kind() != drivers.Uint {
				t.Errorf("the serial number is %v", got["serial"].Kind())
			}
		}
		if got, err := c.Decode(t.Context(), []byte{1}); err != nil || len(got) != 0 {
			t.Errorf("want nothing, got %v, %v", got, err)
		}
	})
	t.Run("tells the place of what it throws, and goes on", func(t *testing.T) {
		c := open(t, meter)
		if _, err := c.Decode(t.Context(), []byte{0xAA, 1}); err == nil || !strings.Contains(err.Error(), "meter.js:5:") || !strings.Contains(err.Error(), "the sum is wrong") {
			t.Errorf("got %v", err)
		}
		if got, err := c.Decode(t.Context(), frame); err != nil || got["frames"].String() != "1" {
			t.Errorf("got %v, %v", got, err)
		}
	})
	t.Run("makes what is sent", func(t *testing.T) {
		c := open(t, meter)
		for point, want := range map[string]string{"text": "SET 7\n", "raw": "\x01\x02\x07", "valve": "\x55\x05\x01"} {
			if got, err := c.Encode(t.Context(), point, drivers.IntValue(7)); err != nil || string(got) != want {
				t.Errorf("%s: want %q, got %q, %v", point, want, got, err)
			}
		}
		if got, err := c.Encode(t.Context(), "bad", drivers.IntValue(7)); err == nil || !strings.Contains(err.Error(), "array of bytes") {
			t.Errorf("want it refused, got %q, %v", got, err)
		}
		read := open(t, "const decode = () => ({})")
		if _, err := read.Encode(t.Context(), "text", drivers.IntValue(7)); err == nil || !strings.Contains(err.Error(), "no function encode") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("that hangs is ended", func(t *testing.T) {
		c := open(t, "function decode() { for (;;); }")
		if _, err := c.Decode(t.Context(), frame); err == nil {
			t.Error("want an error")
		}
	})
	for source, want := range map[string]string{
		"function encode() {}":               "meter.js:1: TypeError: a codec must have a function decode(bytes)",
		"function decode(b) {\n  return 1\n": "meter.js:2: unexpected end of input",
		"\nlet x = ;\nfunction decode() {}":  "meter.js:2:9",
		"require('./x'); function decode":    "cannot compile the codec",
	} {
		t.Run("is refused: "+source, func(t *testing.T) {
			if c, err := compile("meter", "meter.js", source); err == nil || !strings.Contains(err.Error(), want) {
				if err == nil {
					_ = c.Close()
				}
				t.Errorf("want %s, got %v", want, err)
			}
		})
	}
	for source, want := range map[string]string{
		"return [1]":       "decode must return an object",
		"return 5":         "decode must return an object",
		"return {a: {b}}":  "b is not defined",
		"return {a: NaN}":  "",
		"return undefined": "",
	} {
		t.Run("that does "+source, func(t *testing.T) {
			got, err := open(t, "const decode = () => { "+source+" }").Decode(t.Context(), nil)
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("want %q, got %v, %v", want, got, err)
			}
		})
	}
}

func TestDeviceFilesNameCodecs(t *testing.T) {
	if testing.Short() {
		t.Skip("an emulator cannot start this program again as a worker")
	}
	for name, c := range map[string]struct{ codec, source, want string }{
		"that are beside them":    {"meter.js", meter, ""},
		"that are wrong":          {"meter.js", "let x = ;", "hall.yaml:3:8: cannot compile the codec: meter.js:1:9"},
		"that are not there":      {"other.js", meter, "hall.yaml:3:8: the codec cannot be read"},
		"that are somewhere else": {"../meter.js", meter, `"../meter.js" is not a file in the folder of the devices`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, dir := config.Default(), t.TempDir()
			cfg.Rules.Folder, cfg.Plugins.Folder, cfg.Devices.Folder = filepath.Join(dir, "rules"), filepath.Join(dir, "plugins"), filepath.Join(dir, "devices")
			write(t, filepath.Join(dir, "devices/meter.js"), c.source)
			write(t, filepath.Join(dir, "devices/hall.yaml"), "driver: serial\nport: /dev/ttyNONE\ncodec: "+c.codec+"\npoints: {total: {}}\n")
			errs, _ := Check(t.Context(), cfg, Options{Worker: []string{os.Args[0], "script-worker"}})
			if c.want == "" && len(errs) > 0 || c.want != "" && !strings.Contains(fmt.Sprint(errs), c.want) {
				t.Errorf("want %q, got %v", c.want, errs)
			}
		})
	}
}

func BenchmarkCodec(b *testing.B) {
	lang, err := jsvm.New(jsvm.Options{Command: []string{os.Args[0], "script-worker"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer lang.Close()
	c, err := newCodec([]rules.Language{lang}, slog.New(slog.DiscardHandler))("meter", "meter.js", "const decode = b => ({ t: b[0] / 10, n: b.length })")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Decode(b.Context(), []byte{215, 1, 2, 3}); err != nil {
			b.Fatal(err)
		}
	}
}
