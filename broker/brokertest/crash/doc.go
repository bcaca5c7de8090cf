// Package crash takes a broker through a day in a house while its disk breaks, and holds
// it to its word: a real [broker.Server] over a real store on package crashfs, clients of
// package ledger.
//
//	b := crash.Bench{Open: func(fsys durable.FS) (store.Store, error) { ... }}
//	b.PowerCuts(t, crash.Every(1))  // at each operation, in each variant of what lasts
//	b.Faults(t, crash.Every(1))     // ENOSPC, EIO, EROFS at each operation
//
// The day is the same each time, by its seed, but groups of changes form as they come: an
// operation of the disk has not the same meaning in every run.
package crash
