package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"
)

const envPrefix = "GATEHOUSE_"

// override sets keys from the environment. Variables that begin with
// GATEHOUSE_TEST_ are for tests; any other unknown one is an error.
func override(c *Config, environ []string) error {
	var errs []error
	for _, entry := range slices.Sorted(slices.Values(environ)) { // a mapping before its keys
		name, value, _ := strings.Cut(entry, "=")
		path, ok := strings.CutPrefix(name, envPrefix)
		if !ok || strings.HasPrefix(path, "TEST_") {
			continue
		}
		field, ok := find(reflect.ValueOf(c).Elem(), strings.Split(strings.ToLower(path), "__"))
		if !ok {
			errs = append(errs, &Error{Key: name, Msg: "no such key in the configuration"})
			continue
		}
		if err := set(field, value); err != nil {
			errs = append(errs, &Error{Key: name, Msg: err.Error()})
		}
	}
	return errors.Join(errs...)
}

// find goes down the yaml names of struct fields.
func find(v reflect.Value, path []string) (reflect.Value, bool) {
	for _, key := range path {
		if v.Kind() != reflect.Struct {
			return v, false
		}
		next, ok := reflect.Value{}, false
		for f, fv := range v.Fields() {
			if f.Tag.Get("yaml") == key {
				next, ok = fv, true
			}
		}
		if !ok {
			return v, false
		}
		v = next
	}
	return v, true
}

// set decodes value as YAML into the field, as strictly as the file; a string takes
// it as it is, and what a mapping does not name stays.
func set(field reflect.Value, value string) error {
	if field.Kind() == reflect.String {
		field.SetString(value)
		return nil
	}
	fresh := reflect.New(field.Type())
	if field.Kind() == reflect.Struct {
		fresh.Elem().Set(field)
	}
	if err := decodeValue(value, fresh.Interface()); err != nil {
		var at yaml.Error
		if errors.As(err, &at) {
			return fmt.Errorf("cannot read %q: %s", value, at.GetMessage())
		}
		return fmt.Errorf("cannot read %q: %w", value, err)
	}
	field.Set(fresh.Elem())
	return nil
}

func decodeValue(value string, v any) (err error) {
	defer func() {
		if p := recover(); p != nil { // the library's, not ours
			err = fmt.Errorf("it is not YAML: %v", p)
		}
	}()
	file, err := parser.ParseBytes([]byte(value), 0)
	if err != nil {
		return err
	}
	if len(file.Docs) != 1 || empty(file.Docs[0].Body) {
		return errors.New("one value is needed")
	}
	if err := findTrap(file.Docs[0].Body); err != nil {
		return err
	}
	if err := findPart(file.Docs[0].Body, reflect.TypeOf(v).Elem()); err != nil {
		return err
	}
	return yaml.NodeToValue(file.Docs[0].Body, v, yaml.Strict())
}
