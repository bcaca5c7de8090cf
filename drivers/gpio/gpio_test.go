package gpio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The sizes are those that the numbers of the requests carry, on every processor.
func TestLayout(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want uintptr
	}{
		{"gpiochip_info", unsafe.Sizeof(chipInfo{}), 68},
		{"gpio_v2_line_attribute", unsafe.Sizeof(lineAttribute{}), 16},
		{"gpio_v2_line_config_attribute", unsafe.Sizeof(configAttribute{}), 24},
		{"gpio_v2_line_config", unsafe.Sizeof(lineConfig{}), 272},
		{"gpio_v2_line_request", unsafe.Sizeof(lineRequest{}), 592},
		{"gpio_v2_line_request.config", unsafe.Offsetof(lineRequest{}.config), 288},
		{"gpio_v2_line_request.fd", unsafe.Offsetof(lineRequest{}.fd), 588},
		{"gpio_v2_line_info", unsafe.Sizeof(lineInfo{}), 256},
		{"gpio_v2_line_info.flags", unsafe.Offsetof(lineInfo{}.flags), 72},
		{"gpio_v2_line_values", unsafe.Sizeof(lineValues{}), 16},
		{"gpio_v2_line_event", unsafe.Sizeof(lineEvent{}), 48},
		{"size in GPIO_GET_CHIPINFO_IOCTL", getChipInfo >> 16 & 0x3fff, unsafe.Sizeof(chipInfo{})},
		{"size in GPIO_V2_GET_LINEINFO_IOCTL", getLineInfo >> 16 & 0x3fff, unsafe.Sizeof(lineInfo{})},
		{"size in GPIO_V2_GET_LINE_IOCTL", getLine >> 16 & 0x3fff, unsafe.Sizeof(lineRequest{})},
		{"size in GPIO_V2_LINE_GET_VALUES_IOCTL", getValues >> 16 & 0x3fff, unsafe.Sizeof(lineValues{})},
	} {
		if c.got != c.want {
			t.Errorf("%s: want %d, got %d", c.name, c.want, c.got)
		}
	}
}

// board is a computer with GPIO chips that are not there: it answers the system calls,
// of whose structures it sees the bytes. Edges come through a true pipe.
type board struct {
	t     *testing.T
	dev   string
	lines map[string][]string // of chips, by file
	label map[string]string

	mu       sync.Mutex
	requests map[string]lineRequest // by "gpiochip0 17"
	value    map[int]bool           // by descriptor
	fds      map[string]int
	edges    map[string]*os.File // where edges go in
	fails    map[uint32]error    // by request
	sets     []string
}

func newBoard(t *testing.T) *board {
	b := &board{
		t: t, dev: t.TempDir(), lines: make(map[string][]string), label: make(map[string]string), requests: make(map[string]lineRequest),
		value: make(map[int]bool), fds: make(map[string]int), edges: make(map[string]*os.File), fails: make(map[uint32]error),
	}
	t.Cleanup(func() {
		for _, f := range b.edges {
			_ = f.Close()
		}
	})
	return b
}

func (b *board) chip(name, label string, lines ...string) {
	b.lines[name], b.label[name] = lines, label
	if err := os.WriteFile(filepath.Join(b.dev, name), nil, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *board) driver() *Driver { return &Driver{dev: b.dev, ioctl: b.ioctl} }

// memory is a structure as the kernel sees it.
func memory(arg unsafe.Pointer, size int) []byte { return unsafe.Slice((*byte)(arg), size) }

func (b *board) ioctl(fd int, request uint32, arg unsafe.Pointer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fails[request]; err != nil {
		return err
	}
	le := binary.NativeEndian
	switch request {
	case getValues:
		raw := memory(arg, 16)
		if b.value[fd] {
			le.PutUint64(raw, le.Uint64(raw[8:]))
		}
		return nil
	case setValues:
		raw := memory(arg, 16)
		b.value[fd] = le.Uint64(raw)&le.Uint64(raw[8:]) == 1
		b.sets = append(b.sets, fmt.Sprint(b.value[fd]))
		return nil
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return unix.EBADF
	}
	chip := filepath.Base(path)
	lines, known := b.lines[chip]
	if !known {
		return unix.ENOTTY
	}
	switch request {
	case getChipInfo:
		raw := memory(arg, 68)
		copy(raw, chip)
		copy(raw[32:], b.label[chip])
		le.PutUint32(raw[64:], uint32(len(lines)))
	case getLineInfo:
		raw := memory(arg, 256)
		offset := le.Uint32(raw[64:])
		copy(raw, lines[offset])
		if r, held := b.requests[fmt.Sprint(chip, " ", offset)]; held {
			copy(raw[32:], r.consumer[:])
			le.PutUint64(raw[72:], flagUsed)
		}
	case getLine:
		return b.request(chip, arg)
	default:
		b.t.Errorf("unknown request %x", request)
	}
	return nil
}

func (b *board) request(chip string, arg unsafe.Pointer) error {
	r := (*lineRequest)(arg)
	at := fmt.Sprint(chip, " ", r.offsets[0])
	if _, held := b.requests[at]; held {
		return unix.EBUSY
	}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	b.requests[at], b.fds[at], b.edges[at] = *r, ends[0], os.NewFile(uintptr(ends[1]), "edges")
	for _, a := range r.config.attrs[:r.config.numAttrs] {
		if a.attr.id == attrValues {
			b.value[ends[0]] = a.attr.value&a.mask == 1
		}
	}
	r.fd = int32(ends[0])
	return nil
}

// edge has edges with these numbers come, in one go; the line is what the last one says.
func (b *board) edge(at string, rising bool, numbers ...uint32) {
	b.t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		b.t.Fatal(err)
	}
	var raw []byte
	for _, n := range numbers {
		id := uint32(2)
		if rising {
			id = eventRising
		}
		raw = binary.NativeEndian.AppendUint64(raw, uint64(ts.Nano()-int64(time.Minute)))
		for _, word := range []uint32{id, 0, n, n, 0, 0, 0, 0, 0, 0} {
			raw = binary.NativeEndian.AppendUint32(raw, word)
		}
	}
	b.mu.Lock()
	b.value[b.fds[at]] = rising
	b.mu.Unlock()
	if _, err := b.edges[at].Write(raw); err != nil {
		b.t.Fatal(err)
	}
}

// pi is a board like a Raspberry Pi 5.
func pi(t *testing.T) *board {
	b := newBoard(t)
	names := make([]string, 28)
	for i := range names {
		names[i] = fmt.Sprint("GPIO", i)
	}
	b.chip("gpiochip0", "pinctrl-rp1", names...)
	b.chip("gpiochip10", "gpio-brcmstb", "-", "PWR_GPIO", "GPIO5")
	return b
}

func open(t *testing.T, b *board, points string) drivers.Pusher {
	t.Helper()
	dev, err := b.driver().Open(t.Context(), drivertest.Config(t, "io", "driver: gpio\npoints:\n"+points))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return dev.(drivers.Pusher)
}

// next is what the device says next: POINT VALUE.
func next(t *testing.T, dev drivers.Pusher) drivers.Reading {
	t.Helper()
	select {
	case p := <-dev.Pushed():
		if p.Err != nil || len(p.Readings) != 1 {
			t.Fatalf("want a reading, got %+v", p)
		}
		return p.Readings[0]
	case <-time.After(10 * time.Second):
		t.Fatal("the device says nothing")
	}
	return drivers.Reading{}
}

func says(t *testing.T, dev drivers.Pusher, want ...string) {
	t.Helper()
	for _, w := range want {
		r := next(t, dev)
		if got := r.Point + " " + r.Value.String(); got != w {
			t.Errorf("want %s, got %s", w, got)
		}
	}
}

func TestSuite(t *testing.T) {
	cfg := "driver: gpio\npoints:\n  in: {line: GPIO4, pull: up}\n  n: {line: GPIO6, count: both, every: 1s}\n"
	out := "driver: gpio\nchip: pinctrl-rp1\npoints:\n  out: {line: 17, output: true}\n  bell: {line: 18, output: true, pulse: 10ms}\n"
	b := pi(t)
	drivertest.Run(t, &Driver{dev: b.dev, ioctl: func(fd int, request uint32, arg unsafe.Pointer) error {
		if request == getLine { // the suite opens devices again and again, and one beside another
			b.mu.Lock()
			clear(b.requests)
			b.mu.Unlock()
		}
		return b.ioctl(fd, request, arg)
	}}, drivertest.Config(t, "in", cfg), drivertest.Config(t, "out", out))
}

func TestRequests(t *testing.T) {
	b := pi(t)
	open(t, b, `  door: {line: GPIO17, pull: up, active_low: true, debounce: 10ms}
  water: {line: GPIO6, count: rising}
  relay: {line: 27, chip: pinctrl-rp1, output: true, initial: true, drive: open_drain}
  power: {line: PWR_GPIO, pull: off}
`)
	for at, want := range map[string]lineRequest{
		"gpiochip0 17": {config: lineConfig{flags: flagInput | flagRising | flagFalling | flagPullUp | flagActiveLow, numAttrs: 1}, eventBuffer: 1024},
		"gpiochip0 6":  {config: lineConfig{flags: flagInput | flagRising}, eventBuffer: 1024},
		"gpiochip0 27": {config: lineConfig{flags: flagOutput | flagOpenDrain, numAttrs: 1}},
		"gpiochip10 1": {config: lineConfig{flags: flagInput | flagRising | flagFalling | flagBiasDisabled}, eventBuffer: 1024},
	} {
		got, asked := b.requests[at]
		if !asked {
			t.Errorf("want line %s requested, got %v", at, b.fds)
			continue
		}
		if got.config.flags != want.config.flags || got.config.numAttrs != want.config.numAttrs || got.eventBuffer != want.eventBuffer || got.numLines != 1 {
			t.Errorf("%s: want %+v, got flags %x, %d attributes, %d edges", at, want, got.config.flags, got.config.numAttrs, got.eventBuffer)
		}
	}
	door, relay := b.requests["gpiochip0 17"], b.requests["gpiochip0 27"]
	if a := door.config.attrs[0]; a.attr.id != attrDebounce || a.mask != 1 || *(*uint32)(unsafe.Pointer(&a.attr.value)) != 10_000 {
		t.Errorf("want 10,000 us of debounce, got %+v", a)
	}
	if a := relay.config.attrs[0]; a.attr.id != attrValues || a.mask != 1 || a.attr.value != 1 {
		t.Errorf("want the initial value, got %+v", a)
	}
	if text(door.consumer) != "gatehouse door" {
		t.Errorf("want the consumer named, got %q", text(door.consumer))
	}
}

func TestInput(t *testing.T) {
	b := pi(t)
	dev := open(t, b, "  door: {line: GPIO17}\n")
	says(t, dev, "door false")
	b.edge("gpiochip0 17", true, 1)
	r := next(t, dev)
	if ago := time.Since(r.At); !r.Value.Equal(drivers.BoolValue(true)) || ago < time.Minute || ago > 2*time.Minute {
		t.Errorf("want true, at the time of the edge a minute ago, got %v %v ago", r.Value, ago)
	}
	b.edge("gpiochip0 17", false, 2)
	says(t, dev, "door false")
	b.edge("gpiochip0 17", true, 9) // 3 to 8 were more than the kernel keeps
	says(t, dev, "door true")
	if got := dev.(drivers.Metered).Metrics().Counters; got["edges"] != 9 || got["missed_edges"] != 6 {
		t.Errorf("want 9 edges, 6 of them missed, got %v", got)
	}
}

func TestCounting(t *testing.T) {
	b := pi(t)
	dev := open(t, b, "  water: {line: GPIO6, count: rising}\n")
	says(t, dev, "water 0")
	b.edge("gpiochip0 6", true, 1, 2, 3)
	says(t, dev, "water 3")
	b.edge("gpiochip0 6", true, 1000) // the rest was lost, and is counted
	says(t, dev, "water 1000")
	b.edge("gpiochip0 6", true, 4294967295)
	says(t, dev, "water 4294967295")
	b.edge("gpiochip0 6", true, 1) // the number turns over
	says(t, dev, "water 4294967297")
	readings, err := dev.Read(t.Context(), []string{"water"})
	if err != nil || readings[0].Value.String() != "4294967297" {
		t.Errorf("want the count when it is asked for, got %v, %v", readings, err)
	}
}

// Edges in bursts, more than the pipe and the queue hold: the count is exact.
func TestBurst(t *testing.T) {
	b := pi(t)
	dev := open(t, b, "  water: {line: GPIO6, count: both}\n")
	says(t, dev, "water 0")
	const edges = 50_000
	go func() {
		for n := uint32(1); n <= edges; n += 25 {
			var burst []uint32
			for i := range uint32(25) {
				burst = append(burst, n+i)
			}
			b.edge("gpiochip0 6", true, burst...)
		}
	}()
	last, most := int64(0), 0
	for last < edges {
		n, _ := next(t, dev).Value.Int()
		if n <= last {
			t.Fatalf("want more than %d, got %d", last, n)
		}
		last, most = n, most+1
	}
	if got := dev.(drivers.Metered).Metrics().Counters; last != edges || got["edges"] != edges || got["missed_edges"] != 0 {
		t.Errorf("want %d, got %d, %v", edges, last, got)
	}
	t.Logf("%d readings of %d edges", most, edges)
}

func TestOutput(t *testing.T) {
	b := pi(t)
	dev := open(t, b, "  relay: {line: GPIO27, output: true, initial: true}\n  bell: {line: GPIO22, output: true, pulse: 50ms}\n")
	for range 2 {
		next(t, dev)
	}
	read := func(point string) string {
		readings, err := dev.Read(t.Context(), []string{point})
		if err != nil {
			t.Fatal(err)
		}
		return readings[0].Value.String()
	}
	if read("relay") != "true" || read("bell") != "false" {
		t.Error("want the relay on, as it began, and the bell off")
	}
	for _, c := range []struct {
		value drivers.Value
		want  string
	}{
		{drivers.BoolValue(false), "false"},
		{drivers.IntValue(1), "true"},
		{drivers.IntValue(0), "false"},
		{drivers.IntValue(2), `point "relay": 2 is neither true nor false`},
		{drivers.TextValue("on"), `point "relay": on is neither true nor false`},
		{drivers.FloatValue(0.5), `point "relay": 0.5 is neither true nor false`},
	} {
		got := ""
		if err := dev.Write(t.Context(), "relay", c.value); err != nil {
			got = err.Error()
		} else {
			got = read("relay")
		}
		if got != c.want {
			t.Errorf("%v: want %s, got %s", c.value, c.want, got)
		}
	}
	if err := dev.Write(t.Context(), "bell", drivers.BoolValue(true)); err != nil || read("bell") != "true" {
		t.Errorf("want the bell on, got %s, %v", read("bell"), err)
	}
	says(t, dev, "bell false") // by itself
	if read("bell") != "false" {
		t.Error("want the bell off after its pulse")
	}
}

// A pulse ends with the device, also one that has hardly begun: a door must not stay open.
func TestPulseEndsWithTheDevice(t *testing.T) {
	for range 50 { // whether it was taken up by then, nothing tells
		b := pi(t)
		dev, err := b.driver().Open(t.Context(), drivertest.Config(t, "io", "driver: gpio\npoints:\n  bell: {line: GPIO22, output: true, pulse: 1h}\n"))
		if err != nil {
			t.Fatal(err)
		}
		next(t, dev.(drivers.Pusher))
		for _, on := range []bool{true, false, true} {
			if err := dev.Write(t.Context(), "bell", drivers.BoolValue(on)); err != nil {
				t.Fatal(err)
			}
		}
		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
		if want := []string{"true", "false", "true", "false"}; !slices.Equal(b.sets, want) {
			t.Fatalf("want %v, got %v", want, b.sets)
		}
	}
}

func TestLost(t *testing.T) {
	b := pi(t)
	dev := open(t, b, "  door: {line: GPIO17}\n")
	says(t, dev, "door false")
	if err := b.edges["gpiochip0 17"].Close(); err != nil { // the chip is pulled out
		t.Fatal(err)
	}
	select {
	case p := <-dev.Pushed():
		if !errors.Is(p.Err, drivers.ErrLost) {
			t.Errorf("want the device lost, got %+v", p)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the device says nothing")
	}
}

func TestOpenErrors(t *testing.T) {
	for _, c := range []struct {
		name, points string
		change       func(*board)
		want         string
	}{
		{"no chip", "a: {line: GPIO1}", func(b *board) { b.dev += "/none" }, "this computer has no GPIO chip"},
		{"an unknown line", "a: {line: GPIO99}", nil, `point "a": there is no GPIO line "GPIO99" on gpiochip0 "pinctrl-rp1", gpiochip10 "gpio-brcmstb"`},
		{"an unknown chip", "a: {line: 1, chip: gpiochip3}", nil, `point "a": there is no GPIO chip "gpiochip3" (there are: gpiochip0 "pinctrl-rp1"`},
		{"a number too high", "a: {line: 28, chip: gpiochip0}", nil, `chip "gpiochip0" has the lines 0 to 27, not 28`},
		{"a name on two chips", "a: {line: GPIO5}", nil, `line "GPIO5" is there twice`},
		{"a line in use", "a: {line: GPIO1}", func(b *board) { b.requests["gpiochip0 1"] = lineRequest{consumer: [32]byte{'l', 'e', 'd'}} }, `point "a": line "GPIO1" is used by "led"`},
		{"a line that does not take it", "a: {line: GPIO1, pull: down}", func(b *board) { b.fails[getLine] = unix.EINVAL }, `the chip "pinctrl-rp1" refuses line "GPIO1"`},
		{"an old kernel", "a: {line: GPIO1}", func(b *board) { b.fails[getLineInfo] = unix.ENOTTY }, "the kernel is older than Linux 5.10"},
		{"no GPIO chip at all", "a: {line: GPIO1}", func(b *board) { b.fails[getChipInfo] = unix.ENOTTY }, "is no GPIO chip"},
	} {
		t.Run(c.name+" is said", func(t *testing.T) {
			b := pi(t)
			if c.change != nil {
				c.change(b)
			}
			dev, err := b.driver().Open(t.Context(), drivertest.Config(t, "io", "driver: gpio\npoints:\n  "+c.points+"\n"))
			if err == nil {
				_ = dev.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %s, got %v", c.want, err)
			}
			if errors.Is(err, drivers.ErrConfig) {
				t.Errorf("want it tried again, got %v", err)
			}
		})
	}
	t.Run("permission is said with what to do", func(t *testing.T) {
		for _, errno := range []unix.Errno{unix.EACCES, unix.EPERM} {
			if err := openError("/dev/gpiochip0", errno); !strings.Contains(err.Error(), "must be in the group gpio (usermod -aG gpio NAME") {
				t.Errorf("want the group named, got %v", err)
			}
		}
		if err := openError("/dev/gpiochip0", unix.ENOENT); strings.Contains(err.Error(), "group") {
			t.Errorf("want no group named, got %v", err)
		}
	})
}

func TestCheck(t *testing.T) {
	for _, c := range []struct{ name, points, want string }{
		{"no line", "a: {pull: up}", `io.yaml:3:6: point "a": the key "line" is missing`},
		{"a number without a chip", "a: {line: 17}", `io.yaml:3:13: point "a": a line by its number needs the key "chip"`},
		{"an unknown pull", "a: {line: x, pull: sideways}", `io.yaml:3:22: point "a": pull is up, down or off`},
		{"an unknown drive", "a: {line: x, output: true, drive: hard}", `io.yaml:3:37: point "a": drive is push_pull`},
		{"an unknown count", "a: {line: x, count: all}", `io.yaml:3:23: point "a": count is rising, falling or both`},
		{"a long debounce", "a: {line: x, debounce: 1m}", `io.yaml:3:26: point "a": debounce is 1µs to 10s`},
		{"a pulse of nothing", "a: {line: x, output: true, pulse: -1s}", `io.yaml:3:37: point "a": pulse is 1ms to 1h0m0s`},
		{"a pulse of an input", "a: {line: x, pulse: 1s}", `io.yaml:3:23: point "a": pulse is for an output`},
		{"a debounced output", "a: {line: x, output: true, debounce: 1ms}", `io.yaml:3:40: point "a": debounce is for an input`},
		{"a writable input", "a: {line: x, writable: true}", `io.yaml:3:26: point "a": writable is for an output`},
		{"a line twice", "a: {line: x}\n  b: {line: x}", `io.yaml:4:13: point "b": line "x" is that of point "a" already`},
	} {
		t.Run(c.name+" has its place", func(t *testing.T) {
			_, err := New().Check(drivertest.Config(t, "io", "driver: gpio\npoints:\n  "+c.points+"\n"))
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("want %s, got %v", c.want, err)
			}
		})
	}
	points, err := New().Check(drivertest.Config(t, "io", "driver: gpio\npoints:\n  a: {line: x}\n  b: {line: y, output: true, unit: V}\n  c: {line: z, every: 5s}\n"))
	want := []drivers.Point{{Name: "a"}, {Name: "b", Writable: true, Unit: "V"}, {Name: "c", Every: 5 * time.Second}}
	if diff := cmp.Diff(want, points); err != nil || diff != "" {
		t.Errorf("points (-want +got):\n%s%v", diff, err)
	}
	points, err = New().Check(drivertest.Config(t, "io", "driver: gpio\nevery: 10s\npoints:\n  a: {line: x}\n  c: {line: z, every: 5s}\n"))
	want = []drivers.Point{{Name: "a", Every: 10 * time.Second}, {Name: "c", Every: 5 * time.Second}}
	if diff := cmp.Diff(want, points); err != nil || diff != "" {
		t.Errorf("points of a file with every (-want +got):\n%s%v", diff, err)
	}
}
