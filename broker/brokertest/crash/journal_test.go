package crash_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"hash/crc32"
	"os"
	"slices"
	"sync"

	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/durable"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

// journal is the simplest store that keeps its word: each Apply is a record at the end of
// one file, which is synced before it counts. Its flaws show what the bench finds.
type journal struct {
	*mem.Store
	mu    sync.Mutex
	file  durable.File
	end   int64
	flaws flaws
}

type flaws struct {
	noSync   bool // it never syncs
	noDir    bool // nor makes the name of its file last
	liar     bool // it says that all is well when it is not
	unheld   bool // it forgets what QoS 2 identifiers were received
	unsent   bool // it forgets what was received of what it sent
	forgets  bool // it forgets each eighth message
	swaps    bool // it changes the places of two that come together
	retained bool // it keeps no retained messages
	visitors bool // it forgets that sessions were dropped
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func openJournal(fsys durable.FS, fl flaws) (store.Store, error) {
	f, err := fsys.OpenFile("/store/journal", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if !fl.noDir {
		if err = fsys.SyncDir("/store"); err != nil {
			return nil, err
		}
	}
	j := &journal{Store: mem.New(), file: f, flaws: fl}
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	all := make([]byte, size)
	_, _ = f.ReadAt(all, 0) // what cannot be read is torn
	for rest := all; len(rest) >= 8; {
		n := int(binary.LittleEndian.Uint32(rest))
		if n == 0 || n > len(rest)-8 || crc32.Checksum(rest[8:8+n], castagnoli) != binary.LittleEndian.Uint32(rest[4:]) {
			break
		}
		var changes []store.Change
		if err := gob.NewDecoder(bytes.NewReader(rest[8 : 8+n])).Decode(&changes); err != nil {
			return nil, err
		}
		j.Store.Apply(changes)
		rest, j.end = rest[8+n:], j.end+int64(8+n)
	}
	return j, nil
}

// Apply implements [store.Store].
func (j *journal) Apply(changes []store.Change, after ...store.Ticket) store.Ticket {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := store.Failed(after); err != nil {
		return failed{err}
	}
	changes = slices.Clone(changes)
	b := bytes.NewBuffer(make([]byte, 8))
	err := gob.NewEncoder(b).Encode(j.flaw(changes))
	if err == nil {
		binary.LittleEndian.PutUint32(b.Bytes(), uint32(b.Len()-8))
		binary.LittleEndian.PutUint32(b.Bytes()[4:], crc32.Checksum(b.Bytes()[8:], castagnoli))
		_, err = j.file.WriteAt(b.Bytes(), j.end)
	}
	if err == nil && !j.flaws.noSync {
		err = j.file.Sync()
	}
	if err != nil && !j.flaws.liar {
		return failed{err}
	}
	if err == nil {
		j.end += int64(b.Len())
	}
	return j.Store.Apply(changes, after...)
}

// flaw is what it keeps of changes.
func (j *journal) flaw(changes []store.Change) []store.Change {
	kept := make([]store.Change, 0, len(changes))
	for _, c := range changes {
		switch {
		case j.flaws.unheld && c.Op == store.HoldID,
			j.flaws.unsent && c.Op == store.Received,
			j.flaws.forgets && c.Op == store.Enqueue && c.Position%8 == 0,
			j.flaws.retained && c.Op == store.Retain,
			j.flaws.visitors && c.Op == store.DropSession:
			continue
		}
		if i := slices.IndexFunc(kept, func(k store.Change) bool {
			return c.Op == store.Enqueue && k.Op == c.Op && k.Session == c.Session &&
				k.Message.Topic == c.Message.Topic && k.Delivery.QoS == c.Delivery.QoS
		}); j.flaws.swaps && i >= 0 {
			kept[i].Message, c.Message = c.Message, kept[i].Message
		}
		kept = append(kept, c)
	}
	return kept
}

// Close implements [store.Store].
func (j *journal) Close() error {
	_ = j.Store.Close() // which cannot fail
	return j.file.Close()
}

// failed is the ticket of changes that were not made.
type failed struct{ err error }

func (failed) Done() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func (f failed) Wait(context.Context) error { return f.err }
