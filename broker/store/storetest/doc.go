// Package storetest is the suite that every [store.Store] must pass.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(*testing.T) store.Store { return mem.New() }, nil)
//	}
package storetest
