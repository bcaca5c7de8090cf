package crashfs_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/gatehouse/gatehouse/broker/store/durable"
	"github.com/gatehouse/gatehouse/broker/store/durable/crashfs"
)

func newSubject(t *testing.T) (*subject, *crashfs.FS) {
	disk := crashfs.New()
	return &subject{T: t, FS: disk, folder: "/data"}, disk
}

func on(t *testing.T, disk *crashfs.FS) *subject {
	return &subject{T: t, FS: disk, folder: "/data"}
}

func write(t *testing.T, f durable.File, text string, off int64) {
	t.Helper()
	if _, err := f.WriteAt([]byte(text), off); err != nil {
		t.Fatal(err)
	}
}

func TestPowerCut(t *testing.T) {
	t.Run("what was synced lasts, what was not may", func(t *testing.T) {
		s, disk := newSubject(t)
		s.put("a", "old")
		f := s.open("a", os.O_RDWR)
		write(t, f, "new", 0)
		disk.Cut()
		on(t, disk.After(crashfs.Lost, 1)).is("a", "old")
		on(t, disk.After(crashfs.Kept, 1)).is("a", "new")
	})
	t.Run("a name lasts with its folder", func(t *testing.T) {
		s, disk := newSubject(t)
		f := s.open("a", os.O_RDWR|os.O_CREATE)
		write(t, f, "text", 0)
		s.must(f.Sync())
		if names := disk.After(crashfs.Lost, 1).Names(); len(names) != 0 {
			t.Errorf("the name lasts without SyncDir: %v", names)
		}
		on(t, disk.After(crashfs.Kept, 1)).is("a", "text")
		s.must(s.SyncDir("/data"))
		on(t, disk.After(crashfs.Lost, 1)).is("a", "text")
		s.must(s.SyncDir("/other"))
		s.must(s.Rename(s.path("a"), s.path("b")))
		on(t, disk.After(crashfs.Lost, 1)).is("a", "text")
		on(t, disk.After(crashfs.Kept, 1)).is("b", "text")
		s.must(s.Remove(s.path("b")))
		on(t, disk.After(crashfs.Lost, 1)).is("a", "text")
		if names := disk.After(crashfs.Kept, 1).Names(); len(names) != 0 {
			t.Errorf("got %v", names)
		}
	})
	t.Run("random keeps whole writes, torn whole sectors", func(t *testing.T) {
		s, disk := newSubject(t)
		const size = 8 * 512
		s.put("a", strings.Repeat("-", size))
		f := s.open("a", os.O_RDWR)
		write(t, f, strings.Repeat("x", size), 0)
		random, torn := map[string]bool{}, map[string]bool{}
		for seed := range uint64(40) {
			after := on(t, disk.After(crashfs.Random, seed))
			random[after.text(after.open("a", os.O_RDONLY))] = true
			after = on(t, disk.After(crashfs.Torn, seed))
			text := after.text(after.open("a", os.O_RDONLY))
			torn[text] = true
			for i := 0; i < size; i += 512 {
				if part := text[i : i+512]; strings.Trim(part, "x") != "" && strings.Trim(part, "-") != "" {
					t.Fatalf("sector %d is torn in itself", i/512)
				}
			}
		}
		if len(random) != 2 || len(torn) < 20 {
			t.Errorf("got %d outcomes at random, %d torn", len(random), len(torn))
		}
	})
	t.Run("at each operation", func(t *testing.T) {
		_, whole := newSubject(t)
		if _, err := replaceTwice(whole); err != nil {
			t.Fatal(err)
		}
		operations := whole.Stats().Operations
		if operations < 6 {
			t.Fatalf("%d operations", operations)
		}
		for n := 1; n <= operations; n++ {
			_, disk := newSubject(t)
			disk.CutAt(n)
			done, err := replaceTwice(disk)
			select {
			case <-disk.Dead():
			default:
				t.Fatalf("the power is on after operation %d", n)
			}
			if !errors.Is(err, crashfs.ErrCut) || disk.Stats().Operations != n {
				t.Errorf("cut at %d: %v after %d operations", n, err, disk.Stats().Operations)
			}
			for _, v := range crashfs.Variants {
				check(on(t, disk.After(v, uint64(n))), done, n, v)
			}
		}
	})
}

// replaceTwice replaces a file and tells how often that was done.
func replaceTwice(disk *crashfs.FS) (done int, err error) {
	for _, text := range []string{"1", "2"} {
		if err = durable.ReplaceOn(disk, "/data/a", bytes.Repeat([]byte(text), 2000), 0o600); err != nil {
			return done, err
		}
		done++
	}
	return done, nil
}

// check looks at a file that was replaced as often: it has the last content, or the next.
func check(s *subject, done, n int, v crashfs.Variant) {
	s.Helper()
	got := ""
	if f, err := s.OpenFile(s.path("a"), os.O_RDONLY, 0); err == nil {
		got = s.text(f)
	}
	state := map[string]int{"": 0, strings.Repeat("1", 2000): 1, strings.Repeat("2", 2000): 2}
	if now, ok := state[got]; !ok || now < done || now > done+1 {
		s.Errorf("cut at %d, %v: replaced %d times, and the file is %.10q, %d bytes", n, v, done, got, len(got))
	}
}

// withoutSync is a file system whose files are never synced.
type withoutSync struct{ *crashfs.FS }

func (w withoutSync) OpenFile(name string, flag int, perm os.FileMode) (durable.File, error) {
	f, err := w.FS.OpenFile(name, flag, perm)
	return unsynced{f}, err
}

type unsynced struct{ durable.File }

func (unsynced) Sync() error { return nil }

func TestPowerCutHasTeeth(t *testing.T) {
	disk := crashfs.New()
	if err := durable.ReplaceOn(withoutSync{disk}, "/data/a", []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	after := on(t, disk.After(crashfs.Lost, 1))
	if got := after.text(after.open("a", os.O_RDONLY)); got == "text" {
		t.Error("what was not synced was not lost")
	}
}

func TestFaults(t *testing.T) {
	t.Run("every third, from the second", func(t *testing.T) {
		s, disk := newSubject(t)
		f := s.open("a", os.O_RDWR|os.O_CREATE)
		disk.Fail(crashfs.Fault{Err: syscall.EIO, First: 2, Every: 3})
		var got strings.Builder
		for range 9 {
			if err := f.Truncate(1); errors.Is(err, syscall.EIO) {
				got.WriteByte('x')
			} else {
				s.must(err)
				got.WriteByte('.')
			}
		}
		if got.String() != ".x..x..x." {
			t.Errorf("got %s", &got)
		}
		disk.Fail(crashfs.Fault{})
		s.must(f.Truncate(2))
	})
	t.Run("one, and all", func(t *testing.T) {
		s, disk := newSubject(t)
		disk.Fail(crashfs.Fault{Err: syscall.EROFS, First: 1})
		if err := s.SyncDir("/data"); !errors.Is(err, syscall.EROFS) {
			t.Errorf("got %v", err)
		}
		s.must(s.SyncDir("/data"))
		disk.Fail(crashfs.Fault{Err: syscall.EROFS, First: 1, Every: 1})
		for range 3 {
			if err := s.Remove("/data/a"); !errors.Is(err, syscall.EROFS) {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("a sync that fails loses what was before it", func(t *testing.T) {
		s, disk := newSubject(t)
		s.put("a", "old")
		f := s.open("a", os.O_RDWR)
		write(t, f, "new", 0)
		disk.Fail(crashfs.Fault{Err: syscall.EIO, First: 1})
		if err := f.Sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("got %v", err)
		}
		s.must(f.Sync())
		s.is("a", "new")
		for _, v := range crashfs.Variants {
			on(t, disk.After(v, 1)).is("a", "old")
		}
	})
	t.Run("a write that fails may be made in part", func(t *testing.T) {
		s, disk := newSubject(t)
		f := s.open("a", os.O_RDWR|os.O_CREATE)
		disk.Fail(crashfs.Fault{Err: syscall.ENOSPC, First: 1})
		if n, err := f.WriteAt([]byte("12345678"), 0); n != 4 || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("wrote %d bytes: %v", n, err)
		}
		s.is("a", "1234")
	})
}

func TestLimit(t *testing.T) {
	s, disk := newSubject(t)
	disk.Limit(3 * 4096)
	f := s.open("a", os.O_RDWR|os.O_CREATE)
	n, err := f.WriteAt(make([]byte, 5*4096), 100)
	if n != 3*4096-100 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d bytes: %v", n, err)
	}
	write(t, f, strings.Repeat("x", 3*4096), 0) // what is allocated can be written again
	s.must(f.Truncate(1 << 30))                 // a hole takes nothing
	g := s.open("b", os.O_RDWR|os.O_CREATE)
	if _, err := g.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	s.must(s.Rename(s.path("a"), s.path("c")))
	s.must(s.Remove(s.path("c")))
	if _, err := g.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("an open file without a name takes no room: %v", err)
	}
	s.must(f.Close())
	write(t, g, "x", 0)
	after := on(t, disk.After(crashfs.Kept, 1))
	if _, err := after.open("b", os.O_RDWR).WriteAt(make([]byte, 4*4096), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("after a cut the limit is gone: %v", err)
	}
}

func TestDamage(t *testing.T) {
	s, disk := newSubject(t)
	s.put("a", "text")
	s.must(disk.Damage("/data/a", func(b []byte) []byte { b[1] ^= 1; return b[:3] }))
	s.is("a", "tdx")
	on(t, disk.After(crashfs.Lost, 1)).is("a", "tdx")
	if err := disk.Damage("/data/b", func(b []byte) []byte { return b }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestUnreadable(t *testing.T) {
	s, disk := newSubject(t)
	text := strings.Repeat("x", 3*4096)
	s.put("a", text)
	s.put("b", text)
	s.must(disk.Unreadable(crashfs.BadPlace{Name: "/data/a", From: 5000, To: 5001, Err: syscall.EIO}))
	s.must(s.Rename(s.path("a"), s.path("c")))
	s.is("b", text)
	f := s.open("c", os.O_RDONLY)
	for _, test := range []struct{ off, n, got int }{{0, 4096, 4096}, {10, 5000, 4086}, {8191, 2, 0}, {8192, 4096, 4096}} {
		n, err := f.ReadAt(make([]byte, test.n), int64(test.off))
		if n != test.got || errors.Is(err, syscall.EIO) != (test.got < test.n) {
			t.Errorf("%d bytes at %d: got %d, %v", test.n, test.off, n, err)
		}
	}
	s.must(disk.Unreadable(crashfs.BadPlace{Err: syscall.EIO, Times: 1}))
	if _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, syscall.EIO) {
		t.Errorf("of a medium that is gone: %v", err)
	}
	s.is("b", text) // it is well
	s.must(disk.Unreadable(crashfs.BadPlace{Name: "/data/b", Err: syscall.EIO, Closed: true}))
	if _, err := disk.OpenFile("/data/b", os.O_RDONLY, 0); !errors.Is(err, syscall.EIO) {
		t.Errorf("opened: %v", err)
	}
	s.must(disk.Unreadable())
	s.is("b", text)
	if err := disk.Unreadable(crashfs.BadPlace{Name: "/data/a"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestStats(t *testing.T) {
	s, disk := newSubject(t)
	s.put("a", "text")
	want := crashfs.Stats{Operations: 4, Writes: 1, Bytes: 4, Syncs: 1, DirSyncs: 1}
	if got := disk.Stats(); got != want {
		t.Errorf("got %+v", got)
	}
}

func TestOverlay(t *testing.T) {
	below, disk := newSubject(t)
	below.put("a", strings.Repeat("below", 2000))
	below.put("b", "gone")
	before := disk.Stats()
	s := &subject{T: t, FS: durable.Overlay(disk), folder: "/data"}
	f := s.open("a", os.O_RDWR)
	write(t, f, "above", 4094)
	s.must(errors.Join(f.Sync(), s.Rename(s.path("b"), s.path("c")), s.Remove(s.path("c"))))
	s.put("d", "new")
	want := strings.Repeat("below", 2000)
	s.is("a", want[:4094]+"above"+want[4099:])
	s.is("d", "new")
	if found, err := s.ReadDir("/data"); err != nil || len(found) != 2 {
		t.Errorf("got %v, %v", found, err)
	}
	s.must(f.Truncate(10))
	s.must(f.Truncate(5000))
	s.is("a", want[:10]+string(make([]byte, 4990)))
	if disk.Stats() != before {
		t.Error("what is below was changed")
	}
	below.is("a", want)
	below.is("b", "gone")
}
