// Package crashfs is a [durable.FS] in memory that breaks as machines do, for tests. Its
// power can be cut at any operation; writes, syncs and the rest can fail with ENOSPC,
// EIO, EROFS; it can be full; bits of it can flip; places of it can be unreadable.
//
// An operation is what changes files or makes changes last: a write, a truncation, a
// sync, a file opened that was not there, a rename, a removal, a sync of a folder. They
// are counted from 1. Folders need not be made: each that is named exists.
//
//	disk := crashfs.New()
//	disk.CutAt(17)
//	work(disk)                                  // until <-disk.Dead()
//	after := disk.After(crashfs.Torn, seed)     // what the machine finds when it is on again
//
// It is harsher than most file systems: what was not synced may last in any part, whatever
// its order; a name lasts only by a SyncDir of its folder; writes before a Sync that failed
// never last, though they can be read.
package crashfs
