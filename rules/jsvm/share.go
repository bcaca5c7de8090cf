package jsvm

import (
	"slices"
	"strconv"
	"strings"

	"github.com/dop251/goja"
)

// Bounds of what scripts show each other.
const (
	maxShares = 100 // keys and beginnings of keys that a script shares
	maxUses   = 20  // scripts whose state one reads
)

// jsStateShare is state.share(key...): other scripts may read these keys; one that ends
// in * stands for all that begin so.
func (s *script) jsStateShare(call goja.FunctionCall) goja.Value {
	if !s.top {
		panic(s.rt.NewTypeError("state.share can only be called at the top level of a script"))
	}
	for _, v := range call.Arguments {
		if len(s.shares) == maxShares {
			panic(s.rt.NewTypeError("more than %d shared keys", maxShares))
		}
		s.shares = append(s.shares, s.stateKey(v))
	}
	return goja.Undefined()
}

// sharesKey reports whether other scripts may read a key.
func (s *script) sharesKey(key string) bool {
	return slices.ContainsFunc(s.shares, func(share string) bool {
		begin, wild := strings.CutSuffix(share, "*")
		return key == share || wild && strings.HasPrefix(key, begin)
	})
}

// jsShared is shared(file): what another script shares of its state.
func (s *script) jsShared(call goja.FunctionCall) goja.Value {
	file := call.Argument(0).String()
	if !s.top {
		panic(s.rt.NewTypeError("shared can only be called at the top level of a script"))
	}
	if !goja.IsString(call.Argument(0)) || file == "" || len(file) > maxKey || file == s.name {
		panic(s.rt.NewTypeError("shared needs the path of another script in the folder, such as \"house/door.js\""))
	}
	n := slices.Index(s.uses, file)
	if n < 0 {
		if len(s.uses) == maxUses {
			panic(s.rt.NewTypeError("more than %d scripts to read from", maxUses))
		}
		n = len(s.uses)
		s.uses = append(s.uses, file)
	}
	o := s.rt.NewObject()
	put := func(name string, f native) { _ = o.Set(name, f) } // a plain new object takes everything
	put("get", func(call goja.FunctionCall) goja.Value {
		key := s.stateKey(call.Argument(0))
		peer := s.peer(n)
		if peer == nil {
			return goja.Undefined()
		}
		if !peer.sharesKey(key) {
			panic(s.rt.NewTypeError("%s does not share the key %s: it needs state.share(%s)", file, strconv.Quote(key), strconv.Quote(key)))
		}
		s.fact("shared "+file+" "+key, peer.state[key])
		if raw := peer.state[key]; raw != nil {
			return s.decode(raw)
		}
		return goja.Undefined()
	})
	put("keys", func(goja.FunctionCall) goja.Value {
		var keys []string
		if peer := s.peer(n); peer != nil {
			for key := range peer.state {
				if peer.sharesKey(key) {
					keys = append(keys, key)
				}
			}
		}
		slices.Sort(keys)
		items := make([]any, len(keys))
		for i, key := range keys {
			items[i] = key
		}
		return s.rt.NewArray(items...)
	})
	return o
}

// peer is the script behind the nth shared, nil if it does not run.
func (s *script) peer(n int) *script {
	if s.top {
		panic(s.rt.NewTypeError("what others share can be read by handlers, filters and timers, not at the top level"))
	}
	if n >= len(s.peers) {
		return nil
	}
	return s.peers[n]
}

// jsStateUpdate is state.update(key, f): f gets the value, and what it returns is kept.
func (s *script) jsStateUpdate(call goja.FunctionCall) goja.Value {
	f, ok := goja.AssertFunction(call.Argument(1))
	if !ok {
		panic(s.rt.NewTypeError("state.update needs a key and a function"))
	}
	v, err := f(goja.Undefined(), s.jsStateGet(goja.FunctionCall{Arguments: call.Arguments[:1]}))
	if err != nil {
		panic(err)
	}
	if _, later := promiseOf(v); later {
		panic(s.rt.NewTypeError("the function of state.update cannot be async"))
	}
	s.jsStateSet(goja.FunctionCall{Arguments: []goja.Value{call.Argument(0), v}})
	return v
}
