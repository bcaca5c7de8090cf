package exposition

import (
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
)

// ticks are a second of the times in proc_pid_stat(5): USER_HZ, which is 100 wherever
// Linux runs.
const ticks = 100

// Process shows what the kernel knows of the program, as usual: process_cpu_seconds_total,
// process_open_fds, process_resident_memory_bytes and so on. Its source is proc(5), as in
// os.DirFS("/proc"); what is not there, or not understood, is left out.
func (p *Page) Process(proc fs.FS) {
	if text, err := fs.ReadFile(proc, "self/stat"); err == nil {
		p.stat(string(text), bootTime(proc))
	}
	if fds, err := fs.ReadDir(proc, "self/fd"); err == nil {
		p.Gauge("process_open_fds", "Open file descriptors.", float64(len(fds)))
	}
	if text, err := fs.ReadFile(proc, "self/limits"); err == nil {
		for line := range strings.Lines(string(text)) {
			p.limit(line, "Max open files", "process_max_fds", "File descriptors that may be open.")
			p.limit(line, "Max address space", "process_virtual_memory_max_bytes", "Bytes of addresses that there may be.")
		}
	}
	if text, err := fs.ReadFile(proc, "self/net/netstat"); err == nil {
		p.traffic(string(text))
	}
}

// stat reads proc_pid_stat(5). The second field is a name, which may hold anything, in
// parentheses.
func (p *Page) stat(text string, boot float64) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const first = 3 // the field that follows the name
	var n [25]float64
	for i := range n {
		if i >= first && i-first < len(fields) {
			n[i], _ = strconv.ParseFloat(fields[i-first], 64) // a letter is nothing of ours
		}
	}
	if len(fields) < len(n)-first {
		return
	}
	p.Counter("process_cpu_seconds_total", "Time of the processors, the kernel's for it included.", (n[14]+n[15])/ticks)
	p.Gauge("process_virtual_memory_bytes", "Bytes of addresses.", n[23])
	p.Gauge("process_resident_memory_bytes", "Bytes of memory.", n[24]*float64(os.Getpagesize()))
	if boot > 0 {
		p.Gauge("process_start_time_seconds", "When the program was started, as Unix time.", boot+n[22]/ticks)
	}
}

// bootTime is when the machine was started, as Unix time; 0 is unknown.
func bootTime(proc fs.FS) float64 {
	text, err := fs.ReadFile(proc, "stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "\nbtime ")
	line, _, _ := strings.Cut(rest, "\n")
	at, _ := strconv.ParseFloat(line, 64) // 0 if it is none
	return at
}

// limit reads a line of proc_pid_limits(5): NAME SOFT HARD UNIT. No limit is the greatest
// number, as usual.
func (p *Page) limit(line, what, name, help string) {
	rest, ok := strings.CutPrefix(line, what)
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		return
	}
	n, err := strconv.ParseFloat(fields[0], 64)
	if fields[0] == "unlimited" {
		n, err = math.MaxUint64, nil
	}
	if err == nil {
		p.Gauge(name, help, n)
	}
}

// traffic reads the octets of proc_pid_net(5), netstat: lines in pairs, names and numbers.
func (p *Page) traffic(text string) {
	lines := strings.Split(text, "\n")
	for i := 0; i+1 < len(lines); i++ {
		if !strings.HasPrefix(lines[i], "IpExt:") {
			continue
		}
		values := strings.Fields(lines[i+1])
		for k, name := range strings.Fields(lines[i]) {
			if k >= len(values) {
				break
			}
			n, err := strconv.ParseFloat(values[k], 64)
			switch {
			case err != nil:
			case name == "InOctets":
				p.Counter("process_network_receive_bytes_total", "Bytes that its network received.", n)
			case name == "OutOctets":
				p.Counter("process_network_transmit_bytes_total", "Bytes that its network sent.", n)
			}
		}
		return
	}
}
