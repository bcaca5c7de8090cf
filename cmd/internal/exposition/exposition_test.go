package exposition_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/gatehouse/gatehouse/cmd/internal/exposition"
)

func TestText(t *testing.T) {
	var p exposition.Page
	p.Counter("sent_total", "Sent.", 12, "qos", "1")
	p.Counter("sent_total", "Sent.", 1.5e-7, "qos", "0", "by", "rule")
	p.Gauge("odd", "A \\ and\na line.", math.Inf(-1), "file", "a \"b\"\\\n客\xff")
	p.Gauge("nothing", "", math.NaN())
	p.Histogram("took_seconds", "Took.", 3, 4.5, []exposition.Bucket{{0.001, 1}, {2, 2}}, "device", "plc")
	p.Counter("sent_total", "Sent.", 99, "by", "rule", "qos", "0") // the first one counts
	want := `# HELP nothing ` + `
# TYPE nothing gauge
nothing NaN
# HELP odd A \\ and\na line.
# TYPE odd gauge
odd{file="a \\\"b\\\"\\\\\\n客\\xff"} -Inf
# HELP sent_total Sent.
# TYPE sent_total counter
sent_total{by="rule",qos="0"} 1.5e-07
sent_total{qos="1"} 12
# HELP took_seconds Took.
# TYPE took_seconds histogram
took_seconds_bucket{device="plc",le="0.001"} 1
took_seconds_bucket{device="plc",le="2"} 2
took_seconds_bucket{device="plc",le="+Inf"} 3
took_seconds_sum{device="plc"} 4.5
took_seconds_count{device="plc"} 3
`
	if diff := cmp.Diff(want, string(p.Append(nil))); diff != "" {
		t.Errorf("the page (-want +got):\n%s", diff)
	}
	if got := string(p.Append(nil, "nothing", "unknown")); got != want[:strings.Index(want, "# HELP odd")] {
		t.Errorf("of one family: %s", got)
	}
}

// parsed reads a page as Prometheus' own library does.
func parsed(t *testing.T, text []byte) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return families
}

func TestOthersReadIt(t *testing.T) {
	var p exposition.Page
	const name = "a,b=\"c\" {d}\\n\n客"
	p.Gauge("odd", "Odd.", 7, "name", name)
	p.Histogram("took_seconds", "Took.", 3, 4.5, []exposition.Bucket{{0.5, 1}}, "name", name)
	families := parsed(t, p.Append(nil))
	odd, took := families["odd"].GetMetric(), families["took_seconds"].GetMetric()
	if len(odd) != 1 || odd[0].GetLabel()[0].GetValue() != name || odd[0].GetGauge().GetValue() != 7 {
		t.Errorf("the gauge is %v", odd)
	}
	if len(took) != 1 || took[0].GetHistogram().GetSampleCount() != 3 || took[0].GetHistogram().GetSampleSum() != 4.5 ||
		took[0].GetHistogram().GetBucket()[0].GetCumulativeCount() != 1 {
		t.Errorf("the histogram is %v", took)
	}
}

// What dashboards of Go programs show has the names and types that it has everywhere.
func TestTheProgramItself(t *testing.T) {
	var p exposition.Page
	p.Runtime()
	p.Process(os.DirFS("/proc"))
	families := parsed(t, p.Append(nil))
	for name, f := range families {
		want := dto.MetricType_GAUGE
		switch {
		case strings.HasSuffix(name, "_total"):
			want = dto.MetricType_COUNTER
		case name == "go_gc_duration_seconds":
			want = dto.MetricType_SUMMARY
		}
		if f.GetType() != want {
			t.Errorf("%s is a %v", name, f.GetType())
		}
	}
	for _, name := range strings.Fields(`go_gc_duration_seconds go_gc_gogc_percent go_gc_gomemlimit_bytes go_goroutines go_info
		go_memstats_alloc_bytes go_memstats_alloc_bytes_total go_memstats_buck_hash_sys_bytes go_memstats_frees_total go_memstats_gc_sys_bytes
		go_memstats_heap_alloc_bytes go_memstats_heap_idle_bytes go_memstats_heap_inuse_bytes go_memstats_heap_objects
		go_memstats_heap_released_bytes go_memstats_heap_sys_bytes go_memstats_last_gc_time_seconds go_memstats_mallocs_total
		go_memstats_mcache_inuse_bytes go_memstats_mcache_sys_bytes go_memstats_mspan_inuse_bytes go_memstats_mspan_sys_bytes
		go_memstats_next_gc_bytes go_memstats_other_sys_bytes go_memstats_stack_inuse_bytes go_memstats_stack_sys_bytes go_memstats_sys_bytes
		go_sched_gomaxprocs_threads go_threads process_cpu_seconds_total process_max_fds process_open_fds
		process_resident_memory_bytes process_start_time_seconds process_virtual_memory_bytes process_virtual_memory_max_bytes`) {
		if families[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	if n := families["go_gc_duration_seconds"].GetMetric()[0].GetSummary().GetQuantile(); len(n) != 5 || n[1].GetQuantile() != 0.25 {
		t.Errorf("the quantiles are %v", n)
	}
	if rss := families["process_resident_memory_bytes"].GetMetric()[0].GetGauge().GetValue(); (rss < 1<<20 || rss > 1<<40) && !testing.Short() { // an emulator's /proc has zeros there
		t.Errorf("resident memory of %v bytes", rss)
	}
}

func TestProcess(t *testing.T) {
	files := map[string]string{
		"stat": "cpu  1 2\nbtime 1700000000\nprocesses 5\n",
		"self/stat": "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 9 0 12345 1048576 256 " +
			"18446744073709551615 1 1 0 0 0\n",
		"self/fd/0":        "",
		"self/fd/1":        "",
		"self/limits":      "Limit  Soft Limit  Hard Limit  Units\nMax open files  1024  4096  files\nMax address space  unlimited  unlimited  bytes\n",
		"self/net/netstat": "TcpExt: A\nTcpExt: 1\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 7 8\n",
	}
	values := func() map[string]float64 {
		fsys := make(fstest.MapFS)
		for name, text := range files {
			fsys[name] = &fstest.MapFile{Data: []byte(text)}
		}
		var p exposition.Page
		p.Process(fsys)
		all := make(map[string]float64)
		for name, f := range parsed(t, p.Append(nil)) {
			all[name] = f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
		return all
	}
	want := map[string]float64{
		"process_cpu_seconds_total": 2, "process_virtual_memory_bytes": 1 << 20,
		"process_resident_memory_bytes": 256 * float64(os.Getpagesize()), "process_start_time_seconds": 1700000123.45,
		"process_open_fds": 2, "process_max_fds": 1024, "process_virtual_memory_max_bytes": math.MaxUint64,
		"process_network_receive_bytes_total": 7, "process_network_transmit_bytes_total": 8,
	}
	if diff := cmp.Diff(want, values()); diff != "" {
		t.Errorf("all there (-want +got):\n%s", diff)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) { // cut off, or of another kernel: what is known is shown
		whole := files[name]
		for n := range whole {
			files[name] = whole[:n]
			values()
		}
		files[name] = whole
	}
	files = nil
	if got := values(); len(got) != 0 {
		t.Errorf("without proc: %v", got)
	}
}

func TestHandler(t *testing.T) {
	filling, on := make(chan struct{}, 10), make(chan struct{})
	handler := exposition.Handler(func(p *exposition.Page) {
		filling <- struct{}{}
		<-on
		p.Gauge("one", "One.", 1)
		p.Gauge("two", "Two.", 2)
	})
	ask := func(target, accept string) *httptest.ResponseRecorder {
		r, w := httptest.NewRequest(http.MethodGet, target, nil), httptest.NewRecorder()
		if accept != "" {
			r.Header.Set("Accept-Encoding", accept)
		}
		handler.ServeHTTP(w, r)
		return w
	}
	done := make(chan *httptest.ResponseRecorder)
	for range 4 {
		go func() { done <- ask("/metrics", "") }()
		<-filling
	}
	if w := ask("/metrics", ""); w.Code != http.StatusServiceUnavailable {
		t.Errorf("the fifth at once got %d", w.Code)
	}
	close(on)
	const one, two = "# HELP one One.\n# TYPE one gauge\none 1\n", "# HELP two Two.\n# TYPE two gauge\ntwo 2\n"
	for range 4 {
		if w := <-done; w.Code != 200 || w.Body.String() != one+two || w.Header().Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
			t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
		}
	}
	if got := ask("/metrics?name[]=two&name[]=three", "").Body.String(); got != two {
		t.Errorf("by name: %s", got)
	}
	for accept, zipped := range map[string]bool{
		"gzip": true, "zstd, GZIP;q=0.5": true, "br;q=1, gzip; q=1.0": true, "": false, "identity": false, "gzip;q=0": false, "gzip; q=0.000": false,
	} {
		w := ask("/metrics", accept)
		if (w.Header().Get("Content-Encoding") == "gzip") != zipped {
			t.Errorf("%q got %v", accept, w.Header())
		}
		var body io.Reader = w.Body
		if zipped {
			z, err := gzip.NewReader(body)
			if err != nil {
				t.Fatal(err)
			}
			body = z
		}
		if text, err := io.ReadAll(body); err != nil || string(text) != one+two {
			t.Errorf("%q got %s, %v", accept, text, err)
		}
	}
}
