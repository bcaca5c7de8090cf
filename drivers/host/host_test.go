package host_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
	"github.com/gatehouse/gatehouse/drivers/host"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// computer makes a folder with the files of a computer.
func computer(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		put(t, dir, name, text)
	}
	return dir
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	full := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The parts that any Linux has.
func linux() map[string]string {
	return map[string]string{
		"proc/stat":                               "cpu  1000 0 500 8000 500 0 0 0 0 0\ncpu0 1000 0 500 8000 500 0 0 0 0 0\n",
		"proc/loadavg":                            "0.52 0.30 0.07 1/213 4711\n",
		"proc/meminfo":                            "MemTotal:        1000000 kB\nMemFree:          100000 kB\nMemAvailable:     750000 kB\nSwapTotal:        200000 kB\nSwapFree:         150000 kB\n",
		"proc/uptime":                             "86400.42 12345.67\n",
		"proc/diskstats":                          " 179       0 mmcblk0 100 0 2000 0 5000 0 4194304 0 0 0 0\n 179       1 mmcblk0p1 1 0 2 0 3 0 4 0 0 0 0\n   7       0 loop0 0 0 0 0 0 0 9 0 0 0 0\n",
		"sys/block/loop0/size":                    "0\n",
		"sys/block/mmcblk0/device/type":           "SD\n",
		"sys/class/net/lo/statistics/rx_bytes":    "5\n",
		"sys/class/net/eth0/device/uevent":        "\n",
		"sys/class/net/eth0/statistics/rx_bytes":  "1000\n",
		"sys/class/net/eth0/statistics/tx_bytes":  "500\n",
		"sys/class/net/eth0/statistics/rx_errors": "3\n",
		"sys/class/net/eth0/statistics/tx_errors": "4\n",
	}
}

// pi4 is a Raspberry Pi 4 with an SD card, that was short of voltage once and is slow
// now.
func pi4() map[string]string {
	files := linux()
	files["sys/class/thermal/thermal_zone0/type"] = "cpu-thermal\n"
	files["sys/class/thermal/thermal_zone0/temp"] = "48312\n"
	files["sys/devices/platform/soc/soc:firmware/get_throttled"] = "50004\n"
	files["sys/class/hwmon/hwmon1/name"] = "rpi_volt\n"
	files["sys/class/hwmon/hwmon1/in0_lcrit_alarm"] = "0\n"
	return files
}

// cm5 is a Compute Module 5 with eMMC, whose kernel tells the voltage as a sensor alone.
func cm5() map[string]string {
	files := linux()
	files["sys/class/thermal/thermal_zone0/type"] = "gpu-thermal\n"
	files["sys/class/thermal/thermal_zone0/temp"] = "40000\n"
	files["sys/class/thermal/thermal_zone1/type"] = "cpu-thermal\n"
	files["sys/class/thermal/thermal_zone1/temp"] = "-5049\n"
	files["sys/class/hwmon/hwmon0/name"] = "pwmfan\n"
	files["sys/class/hwmon/hwmon0/in0_lcrit_alarm"] = "0\n"
	files["sys/class/hwmon/hwmon2/name"] = "rpi_volt\n"
	files["sys/class/hwmon/hwmon2/in0_lcrit_alarm"] = "1\n"
	files["sys/block/mmcblk0/device/life_time"] = "0x01 0x03\n"
	files["sys/block/mmcblk0/device/pre_eol_info"] = "0x02\n"
	return files
}

func open(t *testing.T, root, text string) drivers.Device {
	t.Helper()
	dev, err := host.New(root).Open(t.Context(), drivertest.Config(t, "pi", text))
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

// readAll reads all points: their values and units, or why they are bad.
func readAll(t *testing.T, dev drivers.Device) map[string]string {
	t.Helper()
	var names []string
	units := make(map[string]string)
	for _, p := range dev.Points() {
		names = append(names, p.Name)
		units[p.Name] = p.Unit
	}
	readings, err := dev.Read(t.Context(), names)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, r := range readings {
		all[r.Point] = strings.TrimSpace(r.Value.String() + " " + units[r.Point])
		if r.Err != nil {
			all[r.Point] = r.Err.Error()
		}
	}
	return all
}

func TestSuite(t *testing.T) {
	drivertest.Run(t, host.New(computer(t, pi4())),
		drivertest.Config(t, "all", "driver: host\n"),
		drivertest.Config(t, "some", "driver: host\nevery: 30s\npoints:\n  cpu_temperature: {}\n  fan: {reads: network_received, interface: eth7}\n"))
}

func TestThisComputer(t *testing.T) {
	dev := open(t, "", "driver: host\n")
	all := readAll(t, dev)
	for _, name := range []string{"cpu_usage", "load_1", "memory_used", "disk_used/root", "uptime"} {
		if all[name] == "" {
			t.Errorf("want %s of the computer that this test runs on, got %v", name, all)
		}
	}
	t.Log(all)
}

func TestAllPoints(t *testing.T) {
	common := map[string]string{
		"cpu_usage": "0 %", "load_1": "0.52", "load_5": "0.3", "load_15": "0.07",
		"memory_used": "25 %", "memory_available": "732 MiB", "swap_used": "25 %",
		"disk_written/mmcblk0": "2048 MiB", "disk_written_per_day/mmcblk0": "2048 MiB/d",
		"network_received/eth0": "0 B/s", "network_sent/eth0": "0 B/s", "network_errors/eth0": "7", "uptime": "86400 s",
	}
	for _, c := range []struct {
		name  string
		files map[string]string
		more  map[string]string
	}{
		{"a Raspberry Pi 4", pi4(), map[string]string{
			"cpu_temperature": "48.3 °C", "undervoltage": "false", "undervoltage_since_boot": "true", "throttled": "true",
		}},
		{"a Compute Module 5", cm5(), map[string]string{
			"cpu_temperature": "-5 °C", "undervoltage": "true", "storage_life_used/mmcblk0": "30 %", "storage_reserve/mmcblk0": "warning",
		}},
		{"a virtual machine", linux(), nil},
	} {
		t.Run(c.name+" has what it tells", func(t *testing.T) {
			dir := computer(t, c.files)
			synctest.Test(t, func(t *testing.T) {
				dev := open(t, dir, "driver: host\n")
				// What stands still has no rate of the processor's time.
				put(t, dir, "proc/stat", "cpu  1000 0 500 8000 500 0 0 0\n")
				go func() {
					<-time.After(100 * time.Millisecond)
					put(t, dir, "proc/stat", "cpu  1000 0 500 9000 500 0 0 0\n")
				}()
				got := readAll(t, dev)
				for _, name := range []string{"disk_used/root", "disk_free/root"} { // of the disk of this test
					if !strings.HasSuffix(got[name], map[string]string{"disk_used/root": " %", "disk_free/root": " MiB"}[name]) {
						t.Errorf("want %s, got %q", name, got[name])
					}
					delete(got, name)
				}
				want := make(map[string]string)
				for _, m := range []map[string]string{common, c.more} {
					for k, v := range m {
						want[k] = v
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("points (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestRates(t *testing.T) {
	dir := computer(t, linux())
	synctest.Test(t, func(t *testing.T) {
		dev := open(t, dir, "driver: host\npoints:\n  cpu_usage: {}\n  in: {reads: network_received, interface: eth0}\n")
		read := func() map[string]string { t.Helper(); return readAll(t, dev) }
		go func() {
			<-time.After(100 * time.Millisecond)
			put(t, dir, "sys/class/net/eth0/statistics/rx_bytes", "1500\n")
			put(t, dir, "proc/stat", "cpu  1010 0 510 8050 510 0 20 0\n")
		}()
		want := func(got map[string]string, in, usage string) {
			t.Helper()
			if got["in"] != in || got["cpu_usage"] != usage {
				t.Errorf("want %s and %s, got %v", in, usage, got)
			}
		}
		want(read(), "2000 B/s", "40 %") // 500 bytes in a quarter of a second; 40 of 100 ticks
		<-time.After(10 * time.Second)
		put(t, dir, "sys/class/net/eth0/statistics/rx_bytes", "6500\n")
		want(read(), "500 B/s", "no time has passed")
		<-time.After(time.Second)
		put(t, dir, "sys/class/net/eth0/statistics/rx_bytes", "10\n")
		want(read(), "it began to count anew", "no time has passed")
		if err := os.Remove(filepath.Join(dir, "sys/class/net/eth0/statistics/rx_bytes")); err != nil {
			t.Fatal(err)
		}
		want(read(), "cannot read /sys/class/net/eth0/statistics/rx_bytes: no such file or directory", "no time has passed")
		put(t, dir, "sys/class/net/eth0/statistics/rx_bytes", "10\n")
		want(read(), "it was not there the last time", "no time has passed")
		<-time.After(time.Second)
		put(t, dir, "sys/class/net/eth0/statistics/rx_bytes", "20\n")
		want(read(), "10 B/s", "no time has passed")
	})
}

func TestBadReadings(t *testing.T) {
	dir := computer(t, map[string]string{
		"proc/stat": "intr 1\n", "proc/loadavg": "?\n", "proc/meminfo": "MemTotal: 0 kB\n", "proc/uptime": "x\n", "proc/diskstats": "\n",
		"sys/block/mmcblk0/device/life_time": "0x00 0x00\n", "sys/block/mmcblk1/device/life_time": "?\n",
		"sys/block/mmcblk0/device/pre_eol_info":               "0x00\n",
		"sys/class/thermal/thermal_zone0/type":                "cpu-thermal\n",
		"sys/class/thermal/thermal_zone0/temp":                "hot\n",
		"sys/devices/platform/soc/soc:firmware/get_throttled": "zz\n",
		"sys/class/net/eth0/statistics/rx_errors":             "-1\n",
	})
	for point, want := range map[string]string{
		"cpu_usage: {}":                        "/proc/stat does not begin with the times of the processors",
		"load_5: {}":                           `/proc/loadavg is "?"`,
		"memory_used: {}":                      "/proc/meminfo tells no sensible memory",
		"uptime: {}":                           `/proc/uptime is "x"`,
		"disk_written: {disk: sda}":            `/proc/uptime is "x"`,
		"storage_life_used: {disk: mmcblk0}":   "the disk does not tell its wear",
		"storage_life_used: {disk: mmcblk1}":   `the life time of the disk is "?"`,
		"storage_life_used: {disk: sda}":       "the disk does not tell its wear, as eMMC does: cannot read /sys/block/sda/device/life_time: no such file or directory",
		"storage_reserve: {disk: mmcblk0}":     "the disk does not tell its reserve",
		"cpu_temperature: {}":                  `/sys/class/thermal/thermal_zone0/temp is "hot", not a number`,
		"cpu_temperature: {zone: gpu}":         `there is no thermal zone "gpu"`,
		"throttled: {}":                        `/sys/devices/platform/soc/soc:firmware/get_throttled is "zz", not a number`,
		"network_errors: {interface: eth0}":    `/sys/class/net/eth0/statistics/rx_errors is "-1", not a number`,
		"disk_free: {path: /not/there}":        `cannot look at the file system of "/not/there": no such file or directory`,
		"network_received: {interface: wlan9}": "cannot read /sys/class/net/wlan9/statistics/rx_bytes: no such file or directory",
	} {
		t.Run(point, func(t *testing.T) {
			got := readAll(t, open(t, dir, "driver: host\npoints:\n  "+point+"\n"))
			for _, why := range got {
				if why != want {
					t.Errorf("want %q, got %q", want, why)
				}
			}
		})
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"an unknown quantity", "points:\n  a: {reads: colour}\n", `pi.yaml:3:6: point "a": "colour" is none of cpu_temperature, cpu_usage, disk_free`},
		{"an unknown name", "points:\n  colour: {}\n", `pi.yaml:3:11: point "colour": "colour" is none of`},
		{"a disk without a path", "points:\n  disk_used: {}\n", `pi.yaml:3:14: point "disk_used": the key "path" is missing`},
		{"a path of what has none", "points:\n  uptime: {path: /}\n", `pi.yaml:3:18: point "uptime": uptime has no path`},
		{"an interface that leads elsewhere", "points:\n  network_sent: {interface: ../../x}\n", `pi.yaml:3:29: point "network_sent": "../../x" is not the name of one`},
		{"a writable point", "points:\n  uptime: {writable: true}\n", `pi.yaml:3:22: point "uptime": nothing of the computer can be written`},
		{"paths beside points", "paths: [/data]\npoints:\n  uptime: {}\n", `pi.yaml:2:8: paths are for a file without points`},
		{"an unknown key", "points:\n  uptime: {unti: s}\n", `pi.yaml:3:12: unknown field "unti"`},
	} {
		t.Run(c.name+" has its place", func(t *testing.T) {
			_, err := host.New("").Check(drivertest.Config(t, "pi", "driver: host\n"+c.text))
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("want %s, got %v", c.want, err)
			}
		})
	}
}

func TestPaths(t *testing.T) {
	dir := computer(t, linux())
	if err := os.MkdirAll(filepath.Join(dir, "var/lib/data"), 0o755); err != nil {
		t.Fatal(err)
	}
	dev := open(t, dir, "driver: host\nevery: 1m\npaths: [/, /var/lib/data, /not/there]\n")
	var got []string
	for _, p := range dev.Points() {
		if p.Every != time.Minute {
			t.Errorf("want %s every minute, got %v", p.Name, p.Every)
		}
		if strings.HasPrefix(p.Name, "disk_used") {
			got = append(got, p.Name)
		}
	}
	if want := []string{"disk_used/root", "disk_used/var_lib_data"}; !slices.Equal(got, want) {
		t.Errorf("want %v, got %v", want, got)
	}
	if every := open(t, dir, "driver: host\n").Points()[0].Every; every != 10*time.Second {
		t.Errorf("want every 10 s by default, got %v", every)
	}
}

func BenchmarkRead(b *testing.B) {
	cfg, err := drivers.ParseConfig("pi", "pi.yaml", []byte("driver: host\n"))
	if err != nil {
		b.Fatal(err)
	}
	dev, err := host.New("").Open(context.Background(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	var names []string
	for _, p := range dev.Points() {
		names = append(names, p.Name)
	}
	if _, err := dev.Read(context.Background(), names); err != nil { // the first takes its time
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := dev.Read(context.Background(), names); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(names)), "points")
}
