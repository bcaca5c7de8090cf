// Package disk is a [store.Store] that survives what ends the gateway: kill -9, a power
// cut, a full disk, damage.
//
//	s, err := disk.Open(disk.Options{Folder: "/var/lib/gatehouse/store"})
//	...
//	defer s.Close()
//	snapshot, err := s.Load(ctx)              // before the first Apply
//	ticket := s.Apply(changes)                // returns at once
//	err = ticket.Wait(ctx)                    // nil: the changes are on the medium
//
// The words. The log is all records in the order in which they were written. It is cut
// into segments, a file each; the last one is written to, others are sealed. A record
// is a message, a part of a session or of the store (a subscription, a retained
// message), or says that such a thing is gone. What was superseded or is gone is dead,
// everything else is live. The index, in memory, knows the place of each live record; a
// message in a queue takes 12 bytes of it.
//
// A group is what arrived while the group before it was written and synced: one write
// and one fdatasync. Records of one Apply are marked as first and last of it, and count
// only together. A sealed segment ends with hints, which say what is in it without the
// bodies, so that opening reads those alone.
//
// Segments of which much is dead are cleaned: what is live is written again, at the end
// of the log, and the file becomes another segment. A record that deletes something
// names the segments in which that may be; it is kept for as long as there are such.
//
// Only the last segment can be torn by a power cut: each is on the medium before the
// next one begins, whose header says where the log in it ended. In the last one each
// group says up to where the log was on the medium when it began: a bad record before
// that is damage, which is put aside in a file, and one after that is the end.
//
// Two goroutines, which Open starts and Close waits for: the writer alone appends and
// changes the index; the keeper makes files ready and cleans.
package disk
