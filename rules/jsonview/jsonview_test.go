package jsonview_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gatehouse/gatehouse/rules/jsonview"
)

var texts = []string{
	``, ` `, `0`, `-0`, `01`, `-`, `1.`, `1.5`, `.5`, `1e`, `1e+`, `1E-5`, `1e5x`, `--1`, `+1`, `1 2`, `nan`, `Infinity`,
	`true`, `false`, `null`, `nul`, `truex`, ` true `, "\ttrue\n", "\vtrue",
	`""`, `"`, `"a`, `"a"`, `"a\"b"`, `"\\"`, `"\\\""`, `"\x"`, `"\u00e9"`, `"\u00g9"`, `"\u00e"`, `"\ud83d\ude00"`, `"\ud83d"`, "\"\t\"", "\"\x7f\xff\"", `"\/\b\f\n\r\t"`,
	`"é"`, `"客厅 \u00e9 灯"`, "\"\xc3\"", "\"\xe5\xae\"", "\"\xed\xa0\x80\"", "\"\xc0\x80\"", "\"\xf4\x90\x80\x80\"", "{\"\xff\":1}", "[\"é\", \"\xff\"]", "\xff", "1\xff", "\xef\xbb\xbf1", "{\"a\":\"\xff", "\"\\\xff\"",
	`[]`, `[ ]`, `[1]`, `[1,]`, `[,1]`, `[1 2]`, `[1 , 2]`, `[[],[[]]]`, `[`, `]`, `[}`, `[1}`,
	`{}`, `{ }`, `{"a":1}`, `{"a" : 1 , "b":2}`, `{"a":1,}`, `{a:1}`, `{"a"}`, `{"a":}`, `{"a":1 "b":2}`, `{"a":1,"a":2}`, `{"\u0061":3}`, `{"a":1,"\u0061":3}`,
	`{"a":{"b":[1,{"c":"}]\""}]},"d":null}`, `{"":""}`, `{"a":1}x`, `{,}`, `{"a":1,,"b":2}`, `{1:2}`, `[}]`, `{]}`, `["\\"]`, `["\"]`,
}

func FuzzParse(f *testing.F) {
	for _, text := range texts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, ok := jsonview.Parse(text, 300)
		valid := json.Valid(text) && utf8.Valid(text) && deepest(text) <= 300
		if ok != valid {
			t.Fatalf("%q: %v, want %v", text, ok, valid)
		}
		listed(t, text, v, ok)
		_, misencoded := jsonview.Misencoded(text, 300)
		if lax := json.Valid(text) && deepest(text) <= 300; misencoded != (lax && !valid) {
			t.Fatalf("%q: misencoded %v", text, misencoded)
		}
		if !ok {
			if v != nil {
				t.Fatalf("%q: a value %q", text, v)
			}
			return
		}
		if !bytes.Equal(v, bytes.Trim(text, " \t\r\n")) {
			t.Fatalf("%q: the value is %q", text, v)
		}
		var want any
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if got := tree(v); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %#v, want %#v", text, got, want)
		}
	})
}

// listed checks ParseListed against what Parse made of a text.
func listed(t *testing.T, text []byte, want jsonview.Value, valid bool) {
	t.Helper()
	const most = 2
	first := jsonview.Member{Key: jsonview.Value("before")}
	v, list, ok := jsonview.ParseListed(text, 300, []jsonview.Member{first}, most)
	if ok != valid || !bytes.Equal(v, want) || (v == nil) != (want == nil) {
		t.Fatalf("%q: %q and %v, want %q and %v", text, v, ok, want, valid)
	}
	members := []jsonview.Member{first}
	for key, value := range want.Members {
		if len(members) <= 1+most {
			members = append(members, jsonview.Member{Key: key, Value: value})
		}
	}
	if !reflect.DeepEqual(list, members) {
		t.Fatalf("%q has the members %q, want %q", text, list, members)
	}
}

// deepest is how many brackets of valid JSON are open at once.
func deepest(text []byte) (deepest int) {
	depth := 0
	d := json.NewDecoder(bytes.NewReader(text))
	for {
		token, err := d.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
			deepest = max(deepest, depth)
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}

// tree is what encoding/json makes of a value.
func tree(v jsonview.Value) any {
	text := func(v jsonview.Value) string {
		if !bytes.Equal(v.AppendText([]byte("x")), []byte("x"+v.Text())) {
			panic("AppendText and Text differ")
		}
		return v.Text()
	}
	switch v.Kind() {
	case jsonview.False:
		return false
	case jsonview.True:
		return true
	case jsonview.Number:
		return json.Number(v)
	case jsonview.String:
		return text(v)
	case jsonview.Array:
		list := []any{}
		for e := range v.Elements {
			if !bytes.Equal(e, v.Element(len(list))) {
				panic("Element and Elements differ")
			}
			list = append(list, tree(e))
		}
		return list
	case jsonview.Object:
		object := map[string]any{}
		for key, m := range v.Members {
			object[text(key)] = tree(m)
			if v.Member(key.Text()) == nil {
				panic("Member finds not what Members gives")
			}
		}
		return object
	case jsonview.None, jsonview.Null:
	}
	return nil
}

func TestDepth(t *testing.T) {
	for _, brackets := range []string{"[]", `{"a":}`} {
		open, shut := brackets[:len(brackets)-1], brackets[len(brackets)-1:]
		for depth, want := range map[int]bool{3: true, 2: false} {
			text := strings.Repeat(open, 3) + "1" + strings.Repeat(shut, 3)
			if _, ok := jsonview.Parse([]byte(text), depth); ok != want {
				t.Errorf("%s within %d: %v, want %v", text, depth, ok, want)
			}
		}
	}
}

func TestMember(t *testing.T) {
	v, ok := jsonview.Parse([]byte(`{"a":1, "b":{"c":[10,"x\n"]}, "\u0061":2, "open":true, "none":null}`), 9)
	if !ok {
		t.Fatal("not JSON")
	}
	got := fmt.Sprintf("%s %s %q %q %q %v %v", v.Member("a"), v.Member("b").Member("c").Element(0), v.Member("b").Member("c").Element(1).Text(),
		v.Member("b").Member("c").Element(2), v.Member("c"), v.Member("open").Kind() == jsonview.True, v.Member("none").Kind() == jsonview.Null)
	if want := `2 10 "x\n" "" "" true true`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if m := v.Member("a").Member("b"); m != nil {
		t.Errorf("a number has a member %q", m)
	}
	if e := v.Element(0); e != nil {
		t.Errorf("an object has an element %q", e)
	}
}

func TestLookingAllocatesNothing(t *testing.T) {
	text := []byte(`{"open":true,"id":100,"value":20.5,"deep":{"list":[1,2,{"x":"y"}]},"stamp":"0123"}`)
	n := testing.AllocsPerRun(100, func() {
		v, ok := jsonview.Parse(text, 300)
		if !ok || v.Member("open").Kind() != jsonview.True || string(v.Member("deep").Member("list").Element(1)) != "2" {
			t.Error("wrong value")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParse(b *testing.B) {
	text := []byte(`{"open":true,"id":100,"value":20,"stamp":"0123456789abcdef0123456789abcdef","pad":"xxxx"}`)
	b.ReportAllocs()
	for b.Loop() {
		v, _ := jsonview.Parse(text, 300)
		if v.Member("open").Kind() != jsonview.True {
			b.Fatal("wrong value")
		}
	}
}

// A string of nothing but escapes takes a time that grows with its length, not with the
// square of it: here that would be hours.
func TestManyEscapes(t *testing.T) {
	const n = 8 << 20
	for _, escape := range []string{`\n`, `\"`, `\\`} {
		text := []byte(`{"long":"` + strings.Repeat(escape, n) + `","open":true}`)
		v, ok := jsonview.Parse(text, 1)
		if !ok || v.Member("open").Kind() != jsonview.True {
			t.Errorf("many %s: the member behind is not found", escape)
		}
	}
}

// TestTokens puts the tokens of a value together: all of it, but the white space.
func TestTokens(t *testing.T) {
	for text, want := range map[string]string{
		` {"a" : [1 , {} , [ ] ,"x , ]\" "] , "b":{"c": null } } `: `{ "a" : [ 1 , { } , [ ] , "x , ]\" " ] , "b" : { "c" : null } }`,
		" -1.5e3 ": "-1.5e3", `"a b"`: `"a b"`, "true": "true", "[[[]]]": "[ [ [ ] ] ]",
	} {
		v, ok := jsonview.Parse([]byte(text), 10)
		if !ok {
			t.Fatalf("%s is no JSON", text)
		}
		var tokens []string
		for token := range v.Tokens {
			tokens = append(tokens, string(token))
		}
		if got := strings.Join(tokens, " "); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// A string that is not UTF-8 is told from what is no JSON besides, with its place.
func TestMisencoded(t *testing.T) {
	for text, want := range map[string]int{
		"{\"a\":\"\xff\xfe\"}": 7, "{\"é\xc3\":1}": 5, "\"\xff\"": 2, "[\"é\",\"\xed\xa0\x80\"]": 8,
		"{\"a\":\"é\"}": 0, "\xff": 0, "{\"a\":\"\xff": 0, "{\"a\":\xff}": 0, "1\xff": 0, "[[[\"\xff\"]]]": 0, "": 0,
	} {
		place, ok := jsonview.Misencoded([]byte(text), 2)
		if place != want || ok != (want > 0) {
			t.Errorf("%q: %d and %v, want %d", text, place, ok, want)
		}
		if v, ok := jsonview.Parse([]byte(text), 2); ok && (want > 0 || v == nil) {
			t.Errorf("%q is JSON", text)
		}
	}
}
