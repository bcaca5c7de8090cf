package jsvm_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is published is what JSON.stringify makes of it, to the byte.
func TestPublishedAsStringifyWould(t *testing.T) {
	values := []string{
		`{}`, `{a:1}`, `{stamp:'0123', value:7, sum:12.5}`, `{b:true, a:false, n:null}`, `{a:undefined, b:1, c:undefined}`, `{a:undefined}`,
		`{a:-0, b:1e21, c:1e-7, d:NaN, e:-Infinity, f:123456789012345680000}`, `{2:'two', 1:'one', x:0}`,
		`{a:'"', b:'\\', c:'\n\u0001\u007f', d:'\u00e9\u2028\ud800 \ud83d\ude00', e:'</script>'}`, `{'"':1, 'ö':2, '':3, '\u2028':4, 'a b':5}`, `{'\ud800':1, '\ufffd':2}`,
		`{f(){}, g:Symbol('s'), [Symbol('k')]:1, h:1}`, `{f(){}}`, `{a:{b:[1,{c:'x'}]}, d:[], e:[undefined, ()=>1]}`,
		`{d:new Date(0), n:new Number(3), s:new String('x'), b:new Boolean(false), r:/x/, e:new Error('x')}`,
		`{toJSON(k){return 'me ' + k}}`, `{a:{toJSON(k){return 'inner ' + k}}}`, `{toJSON:1, a:2}`, `{a:{toJSON(){}}, b:1}`,
		`Object.create({inherited:1})`, `Object.assign(Object.create(null), {a:1})`, `Object.defineProperty({a:1}, 'hidden', {value:2})`,
		`JSON.parse('{"__proto__":{"a":1},"b":2}')`, `JSON.parse('{"__proto__":5}')`, `new Map([[1,2]])`, `new (class { constructor() { this.a = 1 } get b() { return 2 } })()`,
		`new Proxy({a:1, b:2}, {get: (o, k) => k === 'toJSON' ? undefined : o[k] + 1})`, `(function () { return arguments })(1, 'x')`, `{p:msg.payload, a:msg.parts}`,
		`{get a() { return n++ }, get b() { return {n: n++} }, get c() { return 'ö' + n++ }}`,
	}
	var source strings.Builder
	source.WriteString("on('x', (msg) => {\n")
	for _, v := range values {
		source.WriteString("{ let n = 0; const made = () => (" + v + "); publish('is', made()); n = 0; publish('want', JSON.stringify(made())) }\n")
	}
	source.WriteString("})\n")
	s := start(t)
	o := s.hear(t, s.compile(t, "plain.js", source.String()), 0, "x", `{"z":1.50,"y":[1]}`)
	if o.Err != nil || len(o.Publish) != 2*len(values) {
		t.Fatalf("%d messages and %v, want %d", len(o.Publish), o.Err, 2*len(values))
	}
	for i, v := range values {
		if diff := cmp.Diff(string(o.Publish[2*i+1].Payload), string(o.Publish[2*i].Payload)); diff != "" {
			t.Errorf("%s: %s", v, diff)
		}
	}
}

// What JSON cannot say is an error of the script, wherever in an object it is.
func TestPublishedObjectsWithoutJSON(t *testing.T) {
	values := []string{`{a:1n}`, `(() => { const o = {a:1}; o.o = o; return o })()`, `(() => { const o = {a:{}}; o.a.o = o; return o })()`, `{get a() { throw new Error('mine') }}`, `{a:{toJSON() { throw new Error('mine') }}}`}
	var source strings.Builder
	for i, v := range values {
		source.WriteString("on('x" + strconv.Itoa(i) + "', () => publish('is', " + v + "))\n")
	}
	s := start(t)
	p := s.compile(t, "none.js", source.String())
	for i, v := range values {
		if o := s.hear(t, p, i, "x"+strconv.Itoa(i), "{}"); o.Err == nil || len(o.Publish) > 0 {
			t.Errorf("%s: %v, and %d messages", v, o.Err, len(o.Publish))
		} else {
			t.Logf("%s: %v", v, o.Err)
		}
	}
}
