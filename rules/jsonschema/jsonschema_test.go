package jsonschema_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/rules/jsonschema"
)

func decode(t *testing.T, text string) any {
	t.Helper()
	v, err := jsonschema.Decode([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func compile(t *testing.T, text string) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.Compile("rules:///a.json", decode(t, text), nil)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return s
}

// TestFaults: what is said names the place, and what was wanted there.
func TestFaults(t *testing.T) {
	for _, c := range []struct{ schema, value, want string }{
		{`{"properties":{"c":{"type":"string"}}}`, `{"c":31}`, `at '/c': got number, want string`},
		{`{"properties":{"a/b":{"items":{"type":["integer","null"]}}}}`, `{"a/b":[1,null,1.5]}`, `at '/a~1b/2': got number, want null or integer`},
		{`{"required":["c"]}`, `{}`, `at '': "c" is missing`},
		{`{"minimum":-60.5}`, `-60.51`, `at '': it is less than -60.5, or not above it`},
		{`{"exclusiveMaximum":1e2}`, `100`, `at '': it is more than 1e2, or not below it`},
		{`{"minimum":1,"exclusiveMinimum":1}`, `1`, `at '': it is less than 1, or not above it`},
		{`{"properties":{"a":{}},"additionalProperties":false}`, `{"b":1}`, `at '': "b" is not one of its properties`},
		{`{"format":"ipv4"}`, `"1.2.3"`, `at '': "1.2.3" is not a valid ipv4`},
		{`{"anyOf":[{"type":"null"},{"minLength":2}]}`, `"x"`, `at '': got string, want null`},
		{`{"oneOf":[{},{}]}`, `1`, `at '': 2 of the schemas of oneOf are followed, not one`},
		{`{"multipleOf":0.01}`, `21.355`, `at '': it is no multiple of 1/100`},
		{`{"uniqueItems":true}`, `[{"a":1,"b":2},3,{"b":2.0,"a":1}]`, `at '': items 0 and 2 are equal`},
		{`{"propertyNames":{"maxLength":1}}`, `{"ab":1}`, `at '': the name "ab": 2 characters are more than 1`},
		{`{"dependentRequired":{"a":["b"]}}`, `{"a":1}`, `at '': "b" is missing, which "a" needs`},
	} {
		var fault *jsonschema.Fault
		if err := compile(t, c.schema).Validate(decode(t, c.value)); !errors.As(err, &fault) || err.Error() != c.want {
			t.Errorf("%s for %s: %v, want %s", c.schema, c.value, err, c.want)
		}
	}
}

// TestOtherDrafts: what they have, and how they differ, where the suite is not here.
func TestOtherDrafts(t *testing.T) {
	in := func(draft, rest string) string {
		return `{"$schema":"http://json-schema.org/` + draft + `",` + rest + `}`
	}
	for _, c := range []struct {
		schema, value string
		valid         bool
	}{
		{in("draft-04/schema#", `"minimum":1,"exclusiveMinimum":true`), `1`, false},
		{in("draft-04/schema#", `"minimum":1,"exclusiveMinimum":false`), `1`, true},
		{in("draft-04/schema#", `"const":1`), `2`, true},
		{in("draft-04/schema#", `"definitions":{"a":{"id":"#x","type":"null"}},"properties":{"a":{"$ref":"#x"}}`), `{"a":1}`, false},
		{in("draft-04/schema#", `"items":[{"type":"null"}],"additionalItems":{"type":"string"}`), `[null,1]`, false},
		{in("draft-06/schema#", `"const":1`), `2`, false},
		{in("draft-06/schema#", `"if":true,"then":false`), `2`, true},
		{in("draft-07/schema#", `"if":true,"then":false`), `2`, false},
		{in("draft-07/schema#", `"dependencies":{"a":["b"],"c":{"required":["d"]}}`), `{"c":1}`, false},
		{in("draft-07/schema#", `"definitions":{"a":{}},"$ref":"#/definitions/a","type":"null"`), `1`, true},
		{in("draft/2019-09/schema", `"$defs":{"a":{}},"$ref":"#/$defs/a","type":"null"`), `1`, false},
		{in("draft/2019-09/schema", `"dependencies":{"a":["b"]}`), `{"a":1}`, true},
		{in("draft/2019-09/schema", `"items":[{}],"unevaluatedItems":false`), `[1,2]`, false},
		{in("draft/2019-09/schema", `"$recursiveAnchor":true,"properties":{"a":{"$recursiveRef":"#"}},"required":["b"]`), `{"b":1,"a":{}}`, false},
		{in("draft/2019-09/schema", `"$id":"http://x/tree","$recursiveAnchor":true,"type":["integer","object"],"properties":{"sub":{"$ref":"node"}},
			"$defs":{"n":{"$id":"node","$recursiveAnchor":true,"properties":{"next":{"$recursiveRef":"#"}}}}`), `{"sub":{"next":"x"}}`, false},
		{in("draft/2020-12/schema", `"prefixItems":[{"type":"null"}],"items":false`), `[null,1]`, false},
	} {
		if err := compile(t, c.schema).Validate(decode(t, c.value)); (err == nil) != c.valid {
			t.Errorf("%s for %s: %v", c.schema, c.value, err)
		}
	}
}

func TestFormats(t *testing.T) {
	for format, texts := range map[string][2]string{
		"date-time":             {"2026-11-22T12:00:00Z 2026-11-22t12:00:00.123456789+05:30 1998-12-31T23:59:60Z 1998-12-31T15:59:60-08:00", "2026-11-22 2026-11-22_12:00:00Z 2026-13-22T12:00:00Z 2026-11-22T25:00:00Z 2026-11-22T12:00:00 2026-02-29T00:00:00Z 1998-12-31T22:59:60Z 2026-11-22T12:00:00+24:00 2026-11-22T1:00:00Z"},
		"date":                  {"2024-02-29", "2026-02-29 2026-1-1 26-01-01"},
		"time":                  {"12:00:00Z 23:59:59.9-01:00", "12:00Z 24:00:00Z 12:00:00 12:00:00,5Z"},
		"duration":              {"P1D PT1H2M3S P4W P1Y2M3DT4H", "P P1 PT P1YT 1D P1W1D P1H"},
		"email":                 {"a@b.example a.b+c@d.e", "a a@ @b a@b@c a@b_c <a@b> a.@b.c"},
		"hostname":              {"a.b-c.example 1and1.de", "-a.b a..b a_b ü.example a.b- ."},
		"idn-hostname":          {"ü.example 客厅.example", "-ü ü..b"},
		"ipv4":                  {"127.0.0.1", "127.0.0 256.0.0.1 127.0.0.01 ::1"},
		"ipv6":                  {"::1 fe80::1", "fe80::1%eth0 127.0.0.1 :::1"},
		"uri":                   {"http://a/b?c#d urn:x:y mailto:a@b", "/a a//b http://a/<b> http://a:port/ \\a"},
		"uri-reference":         {"/a #b a/b?c", "a\\b http://[::1"},
		"uri-template":          {"http://a/{b}/{+c*}", "http://a/{b http://a/b}"},
		"uuid":                  {"123e4567-e89b-12d3-a456-426614174000 123E4567-E89B-12D3-A456-426614174000", "123e4567e89b12d3a456426614174000 123e4567-e89b-12d3-a456-42661417400g"},
		"json-pointer":          {"/a/b~0c~1", "a /a~ /a~2"},
		"relative-json-pointer": {"0 1/a 0#", "01 -1 /a 1a"},
		"regex":                 {"^(a+)+$", "("},
		"of-our-own":            {"anything", ""},
	} {
		s := compile(t, `{"format":"`+format+`"}`)
		for i, valid := range []bool{true, false} {
			for _, text := range strings.Fields(texts[i]) {
				if err := s.Validate(text); (err == nil) != valid {
					t.Errorf("%s: %q: %v", format, text, err)
				}
			}
		}
		if err := s.Validate(1); err != nil {
			t.Errorf("%s of a number: %v", format, err)
		}
	}
}

// TestNumbers: numbers are equal by what they are, however they are written or held.
func TestNumbers(t *testing.T) {
	s := compile(t, `{"enum":[1,0.1,9007199254740993,[{"a":2}]],"type":["integer","number","array"]}`)
	for _, v := range []any{1, 1.0, int64(1), 0.1, int64(9007199254740993), decode(t, "1e0"), decode(t, "[{\"a\":2.0}]")} {
		if err := s.Validate(v); err != nil {
			t.Errorf("%v: %v", v, err)
		}
	}
	for _, v := range []any{2, int64(9007199254740992), 0.1000001, nil, "1"} {
		if s.Validate(v) == nil {
			t.Errorf("%v is right", v)
		}
	}
}

// TestInvalid: what is not a schema is said with its place.
func TestInvalid(t *testing.T) {
	deep := strings.Repeat(`{"not":`, 1000) + "{}" + strings.Repeat("}", 1000)
	for schema, want := range map[string]string{
		`{"type":"numbr"}`:                     `it is not a JSON Schema: at '/type': a type is null, boolean, integer, number, string, array or object, not "numbr"`,
		`{"type":[]}`:                          `at '/type'`,
		`{"properties":{"a":{"pattern":"("}}}`: `at '/properties/a/pattern': error parsing regexp`,
		`{"patternProperties":{"(":{}}}`:       `at '/patternProperties/(': error parsing regexp`,
		`{"minimum":"1"}`:                      `at '/minimum': minimum is a number`,
		`{"minimum":1e999999999}`:              `at '/minimum'`,
		`{"multipleOf":0}`:                     `at '/multipleOf': multipleOf is a number above 0`,
		`{"maxLength":-1}`:                     `at '/maxLength': it is a whole number from 0 on`,
		`{"required":"a"}`:                     `at '/required': it is a list of names`,
		`{"allOf":[1]}`:                        `at '/allOf/0': a schema is an object, or true or false`,
		`{"not":[]}`:                           `at '/not'`,
		`{"items":[]}`:                         `at '/items'`,
		`{"enum":1}`:                           `at '/enum'`,
		`{"uniqueItems":1}`:                    `at '/uniqueItems'`,
		`{"$defs":{"unused":{"type":1}}}`:      `at '/$defs/unused/type'`,
		`{"$ref":"#/$defs/a"}`:                 `at '/$ref': "#/$defs/a" leads to nothing: there is no "$defs"`,
		`{"$ref":"#a"}`:                        `"#a" leads to nothing: there is no anchor "a"`,
		`{"$ref":"#"}`:                         `it refers to itself without end`,
		`{"$defs":{"a":{"allOf":[{"$ref":"#/$defs/a"}]}}}`:                `it refers to itself without end`,
		`{"$schema":"http://example.org/mine"}`:                           `at '/$schema': "http://example.org/mine" is no draft of JSON Schema that is known here`,
		`{"$schema":"http://json-schema.org/draft-04/schema","not":true}`: `at '/not'`,
		`5`:  `at ''`,
		deep: "it is nested more than 300 deep",
	} {
		_, err := jsonschema.Compile("rules:///a.json", decode(t, schema), nil)
		var invalid *jsonschema.Invalid
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.100s: %v, want %s", schema, err, want)
		}
	}
}

// TestInvalidElsewhere names the document.
func TestInvalidElsewhere(t *testing.T) {
	_, err := jsonschema.Load("rules:///a.json#/x", func(address string) (any, error) {
		return map[string]any{"x": map[string]any{"type": "what"}}, nil
	})
	if err == nil || !strings.Contains(err.Error(), `"rules:///a.json" is not a JSON Schema: at '/x/type'`) {
		t.Error(err)
	}
	gone := errors.New("gone")
	if _, err := jsonschema.Load("rules:///a.json", func(string) (any, error) { return nil, gone }); !errors.Is(err, gone) {
		t.Error(err)
	}
}

// TestWork: a schema that doubles its work with every line is given up, not a machine.
func TestWork(t *testing.T) {
	var defs strings.Builder
	const lines = 40
	for i := range lines {
		fmt.Fprintf(&defs, `"d%d":{"allOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]},`, i, i+1, i+1)
	}
	s := compile(t, fmt.Sprintf(`{"$ref":"#/$defs/d0","$defs":{%s"d%d":{}}}`, defs.String(), lines))
	if err := s.Validate(1); !errors.Is(err, jsonschema.ErrWork) {
		t.Error(err)
	}
}

// FuzzSchema: no schema and no value may crash, or run on.
func FuzzSchema(f *testing.F) {
	f.Add(`{"$ref":"#/$defs/a","$defs":{"a":{"$anchor":"b","items":{"$ref":"#b"}}}}`, `[[],[]]`)
	f.Add(`{"$schema":"http://json-schema.org/draft-07/schema#","items":[{"id":"x"}],"dependencies":{"a":["b"]}}`, `[{"a":1}]`)
	f.Add(`{"$id":"x","$dynamicAnchor":"a","unevaluatedProperties":{"$dynamicRef":"#a"},"multipleOf":0.3}`, `{"a":{"b":-1e5}}`)
	f.Fuzz(func(t *testing.T, schema, value string) {
		doc, err := jsonschema.Decode([]byte(schema))
		if err != nil {
			return
		}
		v, err := jsonschema.Decode([]byte(value))
		if err != nil {
			return
		}
		s, err := jsonschema.Compile("rules:///a.json", doc, func(string) (any, error) { return nil, errors.New("none") })
		if err == nil {
			_ = s.Validate(v) // either is right
		}
	})
}
