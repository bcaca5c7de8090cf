package topic_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker/topic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestValid(t *testing.T) {
	for _, c := range []struct {
		say, s       string
		name, filter bool
	}{
		{"empty", "", false, false},
		{"one character", "a", true, true},
		{"one slash is two empty levels", "/", true, true},
		{"an empty level in the middle", "a//b", true, true},
		{"spaces", "a b/ ", true, true},
		{"Chinese", "devices/light/客厅", true, true},
		{"emoji", "haus/🚪", true, true},
		{"a byte order mark", "\ufeffa", true, true},
		{"a non-character", "a\uffff", true, true},
		{"a leading dollar", "$SYS/broker", true, true},
		{"a share prefix means nothing here", "$share/g/a", true, true},
		{"NUL", "a\x00b", false, false},
		{"a byte that is not UTF-8", "a\xff", false, false},
		{"a cut character", "客"[:2], false, false},
		{"an overlong slash", "a\xc0\xafb", false, false},
		{"a high surrogate", "\xed\xa0\x80", false, false},
		{"a low surrogate", "\xed\xbf\xbf", false, false},
		{"beyond Unicode", "\xf4\x90\x80\x80", false, false},
		{"plus", "+", false, true},
		{"hash", "#", false, true},
		{"plus at the start", "+/a", false, true},
		{"plus in the middle", "a/+/b", false, true},
		{"plus at the end", "a/+", false, true},
		{"plus everywhere", "+/+/+", false, true},
		{"plus and hash", "+/#", false, true},
		{"hash at the end", "a/#", false, true},
		{"hash behind a slash", "/#", false, true},
		{"plus behind a character", "a+", false, false},
		{"plus before a character", "+a", false, false},
		{"plus inside a level", "a/b+c/d", false, false},
		{"two pluses", "++", false, false},
		{"hash behind a character", "a#", false, false},
		{"hash before a character", "#a", false, false},
		{"hash not at the end", "#/a", false, false},
		{"hash before a slash", "a/#/", false, false},
		{"hash in the middle", "a/#/b", false, false},
		{"two hashes", "a/##", false, false},
		{"plus beside hash", "a/+#", false, false},
		{"hash beside plus", "a/#+", false, false},
		{"the longest", strings.Repeat("a", 65535), true, true},
		{"too long", strings.Repeat("a", 65536), false, false},
		{"128 levels", strings.Repeat("a/", 127) + "a", true, true},
		{"128 empty levels", strings.Repeat("/", 127), true, true},
		{"129 levels", strings.Repeat("a/", 128) + "a", false, false},
		{"128 levels of plus", strings.Repeat("+/", 127) + "+", false, true},
		{"129 levels, the last a hash", strings.Repeat("a/", 128) + "#", false, false},
		{"slashes only", strings.Repeat("/", 65535), false, false},
	} {
		t.Run(c.say, func(t *testing.T) {
			if got := topic.ValidName(c.s); got != c.name {
				t.Errorf("ValidName: %v, want %v", got, c.name)
			}
			if got := topic.ValidFilter(c.s); got != c.filter {
				t.Errorf("ValidFilter: %v, want %v", got, c.filter)
			}
		})
	}
}

// matches are the examples of MQTT 5.0 §4.7, and what lies between them.
var matches = []struct {
	filter, name string
	want         bool
}{
	{"sport/tennis/player1/#", "sport/tennis/player1", true},
	{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
	{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
	{"sport/#", "sport", true},
	{"sport/#", "sport/", true},
	{"sport/#", "sports", false},
	{"#", "a", true},
	{"#", "/", true},
	{"#", "a/b/c", true},
	{"/#", "/", true},
	{"/#", "/a", true},
	{"/#", "a", false},
	{"sport/tennis/+", "sport/tennis/player1", true},
	{"sport/tennis/+", "sport/tennis/player1/ranking", false},
	{"sport/+", "sport", false},
	{"sport/+", "sport/", true},
	{"+", "finance", true},
	{"+", "/finance", false},
	{"+", "/", false},
	{"+/+", "/finance", true},
	{"/+", "/finance", true},
	{"+/+", "/", true},
	{"+/+/+", "a//b", true},
	{"+/#", "a", true},
	{"+/#", "/", true},
	{"a/+/c", "a/b/c", true},
	{"a/+/c", "a//c", true},
	{"a/+/c", "a/b/d", false},
	{"a/+/c", "a/c", false},
	{"a/+/#", "a", false},
	{"a/+/#", "a/", true},
	{"a/b", "a/b", true},
	{"a/b", "a/b/", false},
	{"a/b/", "a/b", false},
	{"a//b", "a/b", false},
	{"A", "a", false},
	{"a", "ab", false},
	{"ab", "a", false},
	{"devices/light/客厅", "devices/light/客厅", true},
	{"devices/+/客厅", "devices/light/客厅", true},
	{"devices/light/客", "devices/light/客厅", false},
	{"#", "$SYS/uptime", false},
	{"+/uptime", "$SYS/uptime", false},
	{"+/#", "$SYS/uptime", false},
	{"+", "$SYS", false},
	{"#", "$", false},
	{"$SYS/#", "$SYS", true},
	{"$SYS/#", "$SYS/uptime", true},
	{"$SYS/+", "$SYS/uptime", true},
	{"$SYS/+/x", "$SYS/$y/x", true},
	{"+/x", "a$/x", true},
	{"a/#", "a/$b", true},
	{"$share/g/a", "a", false},
	{"$share/g/+", "$share/g/a", true},
}

func TestMatch(t *testing.T) {
	for _, c := range matches {
		t.Run(c.filter+" with "+c.name, func(t *testing.T) {
			if got := topic.Match(c.filter, c.name); got != c.want {
				t.Errorf("Match: %v, want %v", got, c.want)
			}
			if got := matchLevels(strings.Split(c.filter, "/"), strings.Split(c.name, "/"), true); got != c.want {
				t.Errorf("the matcher of these tests: %v, want %v", got, c.want)
			}
			var tree topic.Tree[int]
			tree.Add(c.filter, 1)
			got := false
			for range tree.Match(c.name) {
				got = true
			}
			if got != c.want {
				t.Errorf("Tree.Match: %v, want %v", got, c.want)
			}
		})
	}
}

// matchLevels is the definition, written down once more.
func matchLevels(filter, name []string, first bool) bool {
	if first && strings.HasPrefix(name[0], "$") && filter[0] != name[0] {
		return false
	}
	switch {
	case len(filter) == 0:
		return len(name) == 0
	case filter[0] == "#":
		return true
	case len(name) == 0:
		return false
	}
	return (filter[0] == "+" || filter[0] == name[0]) && matchLevels(filter[1:], name[1:], false)
}

// TestTreeOfManyBranches goes through the sizes at which a node holds its branches in
// other ways.
func TestTreeOfManyBranches(t *testing.T) {
	const most = 20
	var tree topic.Tree[int]
	check := func(from, to int) {
		t.Helper()
		for i := range most {
			got := slices.Collect(tree.Match(fmt.Sprintf("a/%d", i)))
			if there := i >= from && i < to; there != slices.Equal(got, []int{i}) || !there && len(got) > 0 {
				t.Fatalf("a/%d, with those from %d to %d: %v", i, from, to, got)
			}
		}
	}
	for range 2 {
		for i := range most {
			tree.Add(fmt.Sprintf("a/%d", i), i)
			check(0, i+1)
		}
		for i := range most {
			tree.Remove(fmt.Sprintf("a/%d", i), i)
			check(i+1, most)
		}
		if !tree.Empty() {
			t.Fatal("branches are left")
		}
	}
}

// TestMemoryOfATree is that of filters that branch once.
func TestMemoryOfATree(t *testing.T) {
	const filters, most = 10_000, 420 // 503 with a map in each node that branches
	live := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := live()
	var tree topic.Tree[*int]
	value := new(int)
	for i := range filters {
		tree.Add(fmt.Sprintf("home/%d/door", i), value)
	}
	each := (live() - before) / filters
	runtime.KeepAlive(&tree)
	t.Logf("%d bytes a filter", each)
	if each > most {
		t.Errorf("a filter takes %d bytes, want %d at most", each, most)
	}
}
