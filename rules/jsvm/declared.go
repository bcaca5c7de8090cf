package jsvm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"

	"github.com/gatehouse/gatehouse/rules"
)

// What a script declares (its filters, schedules, windows) is known once its top level
// has run. A gateway that starts remembers it instead of waiting for the worker: it is
// kept with the hash of all that decides about it, and so by nothing that has changed. A
// top level that asks for the time, chance or state is not remembered.

// declaredKey is under which key a program saves what it declares.
const declaredKey = "declared"

// declaredBy hashes what decides about what a script declares.
func declaredBy(build, name string, text []byte, files []wireFile) [sha256.Size]byte {
	var w encoder
	w.uint(wireVersion)
	w.text(build)
	w.text(name)
	w.bytes(text)
	w.files(files)
	return sha256.Sum256(w.b)
}

// appendDeclared appends what a program declares, after its hash.
func (p *program) appendDeclared(b []byte, build string) []byte {
	sum := declaredBy(build, p.src.Name, p.src.Text, p.files)
	return appendRecord(append(b, sum[:]...), &loadedRecord{Rules: p.declared, Windows: p.kept.windows, Paces: p.kept.paces, Uses: p.uses})
}

// saveDeclared gives what the program declares, once.
func (p *program) saveDeclared(put putter) error {
	build := p.link.options.Build
	if !p.fresh || build == "" {
		return nil
	}
	p.fresh = false
	b, err := json.Marshal(p.appendDeclared(nil, build)) // as base64
	if err != nil {
		return nil // what is not remembered is asked for again
	}
	return put(declaredKey, b)
}

// remember makes the program one that declares what it is known to, without the worker;
// false if nothing is known of it.
func (p *program) remember(saved func() map[string][]byte) bool {
	options := &p.link.options
	if options.Build == "" {
		return false
	}
	for line := range bytes.Lines(options.Shipped) {
		known, err := base64.StdEncoding.AppendDecode(nil, bytes.TrimSpace(line))
		if err == nil && p.declares(known, "") {
			return true
		}
	}
	var kept []byte // asked for last: at a start it waits for the store
	return json.Unmarshal(saved()[declaredKey], &kept) == nil && p.declares(kept, options.Build)
}

// declares takes over what was appended by appendDeclared, if it is of the same script.
func (p *program) declares(known []byte, build string) bool {
	sum := declaredBy(build, p.src.Name, p.src.Text, p.files)
	body, ok := bytes.CutPrefix(known, sum[:])
	if !ok {
		return false
	}
	rec, rest, err := decodeRecord(body)
	loaded, ok := rec.(*loadedRecord)
	if err != nil || !ok || len(rest) > 0 {
		return false
	}
	if p.take(loaded) != nil { // the worker's answer will say so again
		p.print = 0
		return false
	}
	return true
}

// Outdated implements rules.Provisional.
func (p *program) Outdated() bool { return p.outdated.Load() }

// Declared compiles scripts and returns what they declare, for [Options]: a line for each
// that declares the same each time.
func (l *Language) Declared(ctx context.Context, scripts []rules.Source) ([]byte, error) {
	var all []byte
	for _, src := range scripts {
		compiled, err := l.Compile(ctx, src)
		if err != nil {
			return nil, err
		}
		if p := compiled.(*program); p.fresh {
			all = base64.StdEncoding.AppendEncode(all, p.appendDeclared(nil, ""))
			all = append(all, '\n')
		}
		if err := compiled.Close(); err != nil {
			return nil, err
		}
	}
	return all, nil
}
