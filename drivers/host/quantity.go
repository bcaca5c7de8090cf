package host

import (
	"errors"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// sample is what was read at a moment: a value, or a counter that a rate is made of.
type sample struct {
	at    time.Time
	value drivers.Value
	count uint64
	of    uint64 // the whole that count is a part of, if there is one
	err   error
}

// quantity is a thing that a point may read.
type quantity struct {
	unit string
	of   string // which key names the instance: "path", "interface", "disk", "zone"; empty is none
	any  bool   // the instance may be left out
	read func(r root, of string) sample
	disk func(s fsInfo) drivers.Value                    // of file systems, in place of read
	rate func(before, now sample) (drivers.Value, error) // nil: the value as it is
}

const mib = 1 << 20

// quantities are all that there is, by name.
var quantities = map[string]quantity{
	"cpu_temperature":         {unit: "°C", of: "zone", any: true, read: temperature},
	"cpu_usage":               {unit: "%", read: processor, rate: share},
	"load_1":                  {read: load(0)},
	"load_5":                  {read: load(1)},
	"load_15":                 {read: load(2)},
	"memory_used":             {unit: "%", read: memory(func(m memInfo) drivers.Value { return percent(m["MemTotal"]-m["MemAvailable"], m["MemTotal"]) })},
	"memory_available":        {unit: "MiB", read: memory(func(m memInfo) drivers.Value { return drivers.IntValue(int64(m["MemAvailable"] / 1024)) })},
	"swap_used":               {unit: "%", read: memory(func(m memInfo) drivers.Value { return percent(m["SwapTotal"]-m["SwapFree"], m["SwapTotal"]) })},
	"disk_used":               {unit: "%", of: "path", disk: fsUsed},
	"disk_free":               {unit: "MiB", of: "path", disk: fsFree},
	"disk_written":            {unit: "MiB", of: "disk", read: written(func(bytes, _ float64) float64 { return math.Round(bytes / mib) })},
	"disk_written_per_day":    {unit: "MiB/d", of: "disk", read: written(func(bytes, up float64) float64 { return math.Round(bytes / mib / up * 86400) })},
	"network_received":        {unit: "B/s", of: "interface", read: network("rx_bytes"), rate: perSecond},
	"network_sent":            {unit: "B/s", of: "interface", read: network("tx_bytes"), rate: perSecond},
	"network_errors":          {of: "interface", read: networkErrors},
	"uptime":                  {unit: "s", read: uptime},
	"undervoltage":            {read: throttle(1<<0, true)},
	"undervoltage_since_boot": {read: throttle(1<<16, false)},
	"throttled":               {read: throttle(1<<1|1<<2|1<<3, false)},
	"storage_life_used":       {unit: "%", of: "disk", read: lifeUsed},
	"storage_reserve":         {of: "disk", read: reserve},
}

func wrong(format string, args ...any) sample { return sample{err: fmt.Errorf(format, args...)} }

// percent is a share with one decimal; of nothing it is 0.
func percent(part, whole uint64) drivers.Value {
	if whole == 0 {
		return drivers.IntValue(0)
	}
	return drivers.DecimalValue(int64(math.Round(1000*float64(part)/float64(whole))), -1)
}

func share(before, now sample) (drivers.Value, error) {
	if now.of == before.of {
		return drivers.Value{}, errors.New("no time has passed")
	}
	return percent(now.count-before.count, now.of-before.of), nil
}

func perSecond(before, now sample) (drivers.Value, error) {
	span := now.at.Sub(before.at).Seconds()
	if span <= 0 {
		return drivers.Value{}, errors.New("no time has passed")
	}
	return drivers.IntValue(int64(math.Round(float64(now.count-before.count) / span))), nil
}

// temperature is that of a thermal zone by its type or number, by default the one that
// is the processor's.
func temperature(r root, zone string) sample {
	zones := r.glob("sys/class/thermal/thermal_zone[0-9]*")
	best, rank := "", 0
	for _, z := range zones {
		kind, err := r.text(z + "/type")
		if err != nil {
			continue
		}
		n := 1
		switch lower := strings.ToLower(kind); {
		case zone != "":
			if zone != kind && "thermal_zone"+zone != path.Base(z) {
				continue
			}
		case strings.HasPrefix(lower, "cpu"), strings.HasPrefix(lower, "soc"), lower == "x86_pkg_temp", lower == "k10temp":
			n = 2
		}
		if n > rank {
			best, rank = z, n
		}
	}
	switch {
	case best == "" && zone != "":
		return wrong("there is no thermal zone %q", zone)
	case best == "":
		return wrong("this computer has no thermal zone")
	}
	s, err := r.text(best + "/temp")
	if err != nil {
		return sample{err: err}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return wrong("/%s/temp is %q, not a number", best, s)
	}
	return sample{value: drivers.DecimalValue(int64(math.Round(float64(n)/100)), -1)}
}

// processor counts the time that processors were busy, of all time (proc(5), /proc/stat).
func processor(r root, _ string) sample {
	s, err := r.text("proc/stat")
	if err != nil {
		return sample{err: err}
	}
	line, _, _ := strings.Cut(s, "\n")
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[0] != "cpu" {
		return wrong("/proc/stat does not begin with the times of the processors")
	}
	m := sample{at: time.Now()}
	for i, f := range fields[1:min(len(fields), 9)] { // guests are counted in user time already
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return wrong("/proc/stat has %q for a number", f)
		}
		m.of += n
		if i != 3 && i != 4 { // idle, iowait
			m.count += n
		}
	}
	return m
}

func load(column int) func(root, string) sample {
	return func(r root, _ string) sample {
		s, err := r.text("proc/loadavg")
		if err != nil {
			return sample{err: err}
		}
		fields := strings.Fields(s)
		if len(fields) < 3 {
			return wrong("/proc/loadavg is %q", s)
		}
		v, err := drivers.ParseNumber(fields[column])
		return sample{value: v, err: err}
	}
}

// memInfo is /proc/meminfo, in KiB.
type memInfo map[string]uint64

func memory(value func(memInfo) drivers.Value) func(root, string) sample {
	return func(r root, _ string) sample {
		s, err := r.text("proc/meminfo")
		if err != nil {
			return sample{err: err}
		}
		m := make(memInfo)
		for line := range strings.Lines(s) {
			name, rest, _ := strings.Cut(line, ":")
			if fields := strings.Fields(rest); len(fields) > 0 {
				m[name], _ = strconv.ParseUint(fields[0], 10, 64) // what is no number is none of those wanted
			}
		}
		if m["MemTotal"] == 0 || m["MemAvailable"] > m["MemTotal"] || m["SwapFree"] > m["SwapTotal"] {
			return wrong("/proc/meminfo tells no sensible memory")
		}
		return sample{value: value(m)}
	}
}

// disks are the disks that are hardware.
func (r root) disks() []string {
	var all []string
	for _, b := range r.glob("sys/block/*") {
		if len(r.glob(b+"/device")) > 0 {
			all = append(all, path.Base(b))
		}
	}
	return all
}

// written is made of the bytes that were written to a disk since the start of the
// computer (proc(5), /proc/diskstats: sectors of 512 bytes), and the seconds since.
func written(value func(bytes, up float64) float64) func(root, string) sample {
	return func(r root, disk string) sample {
		s, err := r.text("proc/diskstats")
		if err != nil {
			return sample{err: err}
		}
		up := uptime(r, "")
		seconds, _ := up.value.Float()
		switch {
		case up.err != nil:
			return up
		case seconds <= 0:
			return wrong("the computer has just started")
		}
		for line := range strings.Lines(s) {
			fields := strings.Fields(line)
			if len(fields) < 10 || fields[2] != disk {
				continue
			}
			sectors, err := strconv.ParseUint(fields[9], 10, 64)
			if err != nil {
				return wrong("/proc/diskstats has %q for a number", fields[9])
			}
			return sample{value: drivers.IntValue(int64(value(float64(sectors)*512, seconds)))}
		}
		return wrong("there is no disk %q", disk)
	}
}

// interfaces are the network interfaces that are hardware.
func (r root) interfaces() []string {
	var all []string
	for _, i := range r.glob("sys/class/net/*") {
		if len(r.glob(i+"/device")) > 0 {
			all = append(all, path.Base(i))
		}
	}
	return all
}

func (r root) counter(name string) (uint64, error) {
	s, err := r.text(name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("/%s is %q, not a number", name, s)
	}
	return n, nil
}

func network(counter string) func(root, string) sample {
	return func(r root, of string) sample {
		n, err := r.counter("sys/class/net/" + of + "/statistics/" + counter)
		return sample{at: time.Now(), count: n, err: err}
	}
}

// networkErrors are all errors of an interface since it came up.
func networkErrors(r root, of string) sample {
	sum := uint64(0)
	for _, counter := range []string{"rx_errors", "tx_errors"} {
		n, err := r.counter("sys/class/net/" + of + "/statistics/" + counter)
		if err != nil {
			return sample{err: err}
		}
		sum += n
	}
	return sample{value: drivers.UintValue(sum)}
}

func uptime(r root, _ string) sample {
	s, err := r.text("proc/uptime")
	if err != nil {
		return sample{err: err}
	}
	first, _, _ := strings.Cut(s, " ")
	f, err := strconv.ParseFloat(first, 64)
	if err != nil || f < 0 || f > 1e12 {
		return wrong("/proc/uptime is %q", s)
	}
	return sample{value: drivers.IntValue(int64(f))}
}

// throttle is whether one of the bits is set of what the firmware of a Raspberry Pi says
// (https://www.raspberrypi.com/documentation/computers/os.html#get_throttled): 0 under-voltage,
// 1 to 3 slowed down, and 16 above for since the start. Kernels without that file tell
// the voltage alone, as a sensor.
func throttle(bits uint64, voltage bool) func(root, string) sample {
	return func(r root, _ string) sample {
		if found := r.glob("sys/devices/platform/soc*/*firmware/get_throttled"); len(found) > 0 {
			name := found[0]
			s, err := r.text(name)
			if err != nil {
				return sample{err: err}
			}
			n, err := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 32)
			if err != nil {
				return wrong("/%s is %q, not a number", name, s)
			}
			return sample{value: drivers.BoolValue(n&bits != 0)}
		}
		if voltage {
			for _, name := range r.glob("sys/class/hwmon/hwmon*/in0_lcrit_alarm") {
				if kind, _ := r.text(path.Dir(name) + "/name"); kind != "rpi_volt" {
					continue
				}
				n, err := r.counter(name)
				return sample{value: drivers.BoolValue(n != 0), err: err}
			}
		}
		return wrong("the firmware of this computer does not tell")
	}
}

// lifeUsed is the life that an eMMC has used, of its two types of cells the worse one:
// it tells tenths, of which the end is given (JEDEC eMMC 5.1, DEVICE_LIFE_TIME_EST).
func lifeUsed(r root, disk string) sample {
	s, err := r.text("sys/block/" + disk + "/device/life_time")
	if err != nil {
		return wrong("the disk does not tell its wear, as eMMC does: %w", err)
	}
	worst := uint64(0)
	for _, f := range strings.Fields(s) {
		n, err := strconv.ParseUint(strings.TrimPrefix(f, "0x"), 16, 8)
		if err != nil {
			return wrong("the life time of the disk is %q", s)
		}
		worst = max(worst, n)
	}
	if worst == 0 || worst > 11 {
		return wrong("the disk does not tell its wear")
	}
	return sample{value: drivers.IntValue(int64(worst) * 10)}
}

// reserve is how much of an eMMC's reserved blocks is used up: "normal", "warning" (80 %)
// or "urgent" (90 %) (JEDEC eMMC 5.1, PRE_EOL_INFO).
func reserve(r root, disk string) sample {
	s, err := r.text("sys/block/" + disk + "/device/pre_eol_info")
	if err != nil {
		return wrong("the disk does not tell its reserve, as eMMC does: %w", err)
	}
	switch n, _ := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 8); n {
	case 1:
		return sample{value: drivers.TextValue("normal")}
	case 2:
		return sample{value: drivers.TextValue("warning")}
	case 3:
		return sample{value: drivers.TextValue("urgent")}
	}
	return wrong("the disk does not tell its reserve")
}
