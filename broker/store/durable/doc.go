// Package durable writes what must survive a power cut. Nothing else of the gateway
// renames or syncs files: everything durable goes through an [FS], which is [OS] in the
// program, and in tests package crashfs, whose power can be cut at any operation.
//
// Three rules of file systems are behind all of it. What was written lasts only after a
// Sync of the file; a new, changed or removed name lasts only after a SyncDir of its
// folder; and what a failed Sync leaves is not known to anybody. [Replace] keeps them for
// whole files:
//
//	err := durable.Replace("/var/lib/gatehouse/users", text, 0o600)
package durable
