package disk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/disk"
	"github.com/gatehouse/gatehouse/broker/store/durable/crashfs"
)

// positions are those of p0's messages that a store gives.
func positions(t *testing.T, s store.Store) (all []uint64) {
	t.Helper()
	found, err := s.Fetch(t.Context(), "p0", 0, 1000)
	if err != nil {
		t.Fatalf("fetch: %v", err)
	}
	for _, q := range found {
		if want := fmt.Sprintf("<%d>", q.Position); !strings.HasPrefix(string(q.Message.Payload), want) {
			t.Fatalf("at %d: %.20q", q.Position, q.Message.Payload)
		}
		all = append(all, q.Position)
	}
	return all
}

// bytesOf is what a file holds.
func bytesOf(t *testing.T, fs *crashfs.FS, name string) (all []byte) {
	t.Helper()
	if err := fs.Damage(name, func(b []byte) []byte {
		all = slices.Clone(b)
		return b
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// segmentsOf lists the files that have the name of a segment.
func segmentsOf(fs *crashfs.FS) []string {
	return slices.DeleteFunc(fs.Names(), func(name string) bool { return !strings.HasSuffix(name, ".log") })
}

// unreadable has one page of a file fail.
func unreadable(t *testing.T, fs *crashfs.FS, name string, page int64) {
	t.Helper()
	if err := fs.Unreadable(crashfs.BadPlace{Name: name, From: page << 12, To: page<<12 + 1, Err: syscall.EIO}); err != nil {
		t.Fatal(err)
	}
}

// TestUnreadablePage has the medium refuse each page of each file: the store opens, serves
// what is elsewhere, says what it lost, and goes on without that file.
func TestUnreadablePage(t *testing.T) {
	made := sealedAfter(t, session(0))
	for _, name := range segmentsOf(made) {
		for page := range int64(disk.MinSegment >> 12) {
			t.Run(fmt.Sprint(name, " ", page), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					fs := made.After(crashfs.Kept, 1)
					whole := bytesOf(t, fs, name)
					unreadable(t, fs, name, page)
					s := open(t, logged(t, small(fs)))
					snap, err := s.Load(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if len(snap.Sessions) == 1 { // else it was there
						left := positions(t, s)
						for at := range uint64(100) {
							mark := strings.Index(string(whole), fmt.Sprintf("<%d>", at+1))
							elsewhere := mark < 0 || page > 0 && (int64(mark)+400)>>12 < page || page > 0 && int64(mark-100)>>12 > page
							if elsewhere && !slices.Contains(left, at+1) {
								t.Errorf("message %d at %d is lost", at+1, mark)
							}
						}
						if st := s.Stats(); len(left) < 100 && (st.Damaged == 0 || st.Unreadable == 0) {
							t.Errorf("%d are left, and %d places damaged", len(left), st.Damaged)
						}
					}
					put(t, s, session(0), enqueue("p0", 1000, &message.Message{Topic: "t", Payload: []byte("<1000>"), QoS: 1}))
					<-time.After(time.Minute)
					if s.Stats().Unreadable > 0 && slices.Contains(fs.Names(), name) {
						t.Errorf("the file is still in use: %v", fs.Names())
					}
					if st := s.Stats(); st.Failed != "" {
						t.Error(st.Failed)
					}
					again(t, s, fs)
				})
			})
		}
	}
}

// again opens a store again: it holds the same, and nothing is damaged.
func again(t *testing.T, s *disk.Store, fs *crashfs.FS) {
	t.Helper()
	before := dump(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, small(fs))
	if after := unsized(dump(t, s)); after != unsized(before) {
		t.Errorf("opened again:\n%s", near([]string{unsized(before)}, after))
	}
	if st := s.Stats(); st.Damaged != 0 {
		t.Errorf("opened again: %d places damaged", st.Damaged)
	}
}

// TestUnreadableOnce has the medium refuse now and then: nothing is lost.
func TestUnreadableOnce(t *testing.T) {
	made := sealedAfter(t, session(0))
	for _, times := range []int{1, 2} {
		for _, closed := range []bool{false, true} {
			fs := made.After(crashfs.Kept, 1)
			s := open(t, small(fs))
			for _, name := range segmentsOf(fs) {
				if closed && times > 1 {
					continue
				}
				if err := fs.Unreadable(crashfs.BadPlace{Name: name, Err: syscall.EIO, Times: times, Closed: closed}); err != nil {
					t.Fatal(err)
				}
				if n := len(positions(t, s)); n != 100 || s.Stats().Damaged != 0 {
					t.Errorf("%s refuses %d times: %d messages are left", name, times, n)
				}
			}
		}
	}
}

// TestUnreadableWhileItRuns has places become unreadable below a running store: whoever
// asks gets the rest, and what has to be cleaned is.
func TestUnreadableWhileItRuns(t *testing.T) {
	for name, places := range map[string][]crashfs.BadPlace{
		"a page":              {{From: 4096, To: 4097}},
		"a page and the end":  {{From: 4096, To: 4097}, {From: disk.MinSegment - 1}},
		"all":                 {{}},
		"it cannot be opened": {{Closed: true}},
	} {
		for _, cleaned := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", cleaned ", cleaned), func(t *testing.T) {
				disk.Verify(t)
				synctest.Test(t, func(t *testing.T) {
					fs := sealedAfter(t, session(0))
					s := open(t, logged(t, small(fs)))
					put(t, s, session(0)) // elsewhere
					synctest.Wait()
					const bad = "/store/000001.log"
					for i := range places {
						places[i].Name, places[i].Err = bad, syscall.EIO
					}
					if err := fs.Unreadable(places...); err != nil {
						t.Fatal(err)
					}
					if cleaned {
						if err := disk.Clean(s, 0); err != nil {
							t.Fatal(err)
						}
						if st := s.Stats(); st.Messages == 100 || slices.Contains(fs.Names(), bad) {
							t.Errorf("cleaned, and %d messages are said to be there, files %v", st.Messages, fs.Names())
						}
					}
					left := positions(t, s)
					if st := s.Stats(); len(left) == 100 || len(left) < 50 || st.Unreadable == 0 {
						t.Errorf("%d are left, and %d places unreadable", len(left), st.Unreadable)
					}
					<-time.After(time.Minute)
					if slices.Contains(fs.Names(), bad) || !slices.Contains(fs.Names(), "/store/damaged-000001.bin") {
						t.Errorf("the file is still in use: %v", fs.Names())
					}
					if got := positions(t, s); !slices.Equal(got, left) {
						t.Errorf("then %d of %d", len(got), len(left))
					}
					if st := s.Stats(); st.Aside != disk.MinSegment || st.Messages != len(left) {
						t.Errorf("%+v", st)
					}
					again(t, s, fs)
				})
			})
		}
	}
}

// TestMediumGone has the medium as a whole go: a store is not opened, and gives nothing
// up; one that is open neither, and goes on when it is back.
func TestMediumGone(t *testing.T) {
	made := sealedAfter(t, session(0))
	for name, from := range map[string]int64{"before": 0, "when the headers were read": 4096} {
		t.Run("to be opened, gone "+name, func(t *testing.T) {
			fs := made.After(crashfs.Kept, 1)
			before := fs.Names()
			if err := fs.Unreadable(crashfs.BadPlace{From: from, Err: syscall.EIO}); err != nil {
				t.Fatal(err)
			}
			if from > 0 {
				fs.Fail(crashfs.Fault{Err: syscall.EIO, First: 1, Every: 1})
			}
			s, err := disk.Open(logged(t, small(fs)))
			if err == nil {
				_ = s.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), "gone as a whole") || from > 0 && !errors.Is(err, syscall.EIO) {
				t.Errorf("got %v", err)
			}
			if got := fs.Names(); !slices.Equal(got, before) {
				t.Errorf("there was %v, now %v", before, got)
			}
			if err := fs.Unreadable(); err != nil {
				t.Fatal(err)
			}
			fs.Fail(crashfs.Fault{})
			if n := len(positions(t, open(t, small(fs)))); n != 100 {
				t.Errorf("it is back, and %d messages are left", n)
			}
		})
	}
	t.Run("while it runs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			fs := made.After(crashfs.Kept, 1)
			s := open(t, logged(t, small(fs)))
			<-time.After(time.Minute)
			if err := fs.Unreadable(crashfs.BadPlace{Err: syscall.EIO, Closed: true}); err != nil {
				t.Fatal(err)
			}
			fs.Fail(crashfs.Fault{Err: syscall.EIO, First: 1, Every: 1})
			if _, err := s.Fetch(context.Background(), "p0", 0, 1000); !errors.Is(err, syscall.EIO) {
				t.Errorf("fetch: %v", err)
			}
			if s.Stats().Failed == "" {
				t.Error("it is said to be well")
			}
			<-time.After(time.Hour)
			if err := fs.Unreadable(); err != nil {
				t.Fatal(err)
			}
			fs.Fail(crashfs.Fault{})
			<-time.After(time.Minute)
			if st := s.Stats(); st.Failed != "" || st.Damaged != 0 {
				t.Errorf("it is back, and: %+v", st)
			}
			if n := len(positions(t, s)); n != 100 {
				t.Errorf("it is back, and %d messages are left", n)
			}
		})
	})
}

// TestBallastThatFails has a reserve that cannot be read or made hinder nobody.
func TestBallastThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := crashfs.New()
		s := open(t, small(fs))
		put(t, s, session(0))
		<-time.After(time.Minute)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := fs.Unreadable(crashfs.BadPlace{Name: "/store/ballast", Err: syscall.EIO, Closed: true}); err != nil {
			t.Fatal(err)
		}
		_ = open(t, small(fs)) // until the test ends
		<-time.After(time.Minute)
		if !slices.Contains(fs.Names(), "/store/ballast") {
			t.Error("there is no other one")
		}
	})
}

// TestLostBeginning has a segment be empty, or larger than others and without its
// beginning: it is put aside. A file that was being made is no damage.
func TestLostBeginning(t *testing.T) {
	large := store.Change{Op: store.Put, Bucket: "b", Key: "k", Value: make([]byte, 3*disk.MinSegment)}
	isLarge := func(b []byte) bool { return len(b) > disk.MinSegment }
	for name, change := range map[string]func([]byte) []byte{
		"empty": func(b []byte) []byte { return b[:0] },
		"zeros": func(b []byte) []byte { clear(b[:1024]); return b },
		"short": func(b []byte) []byte { return b[:10] },
	} {
		for _, ofLarge := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", large ", ofLarge), func(t *testing.T) {
				fs := sealedAfter(t, session(0), large)
				for _, file := range segmentsOf(fs) {
					if isLarge(bytesOf(t, fs, file)) == ofLarge {
						if err := fs.Damage(file, change); err != nil {
							t.Fatal(err)
						}
						break
					}
				}
				s := open(t, small(fs))
				if n := s.Stats().Damaged; n != 1 || !strings.Contains(strings.Join(fs.Names(), " "), "damaged-") {
					t.Errorf("%d damaged, files %v", n, fs.Names())
				}
			})
		}
	}
	t.Run("being made", func(t *testing.T) {
		for cut := 1; ; cut++ {
			fs := crashfs.New()
			fs.CutAt(cut)
			s, err := disk.Open(small(fs))
			if err != nil {
				continue
			}
			err = s.Apply([]store.Change{session(0), large}).Wait(t.Context())
			_ = s.Close()
			for _, v := range crashfs.Variants {
				after := open(t, small(fs.After(v, uint64(cut))))
				if st := after.Stats(); st.Damaged != 0 {
					t.Errorf("cut at %d, %v: %d damaged", cut, v, st.Damaged)
				}
			}
			if err == nil {
				return
			}
		}
	})
}

// TestAsideIsBounded counts what is put aside over restarts, whole files too.
func TestAsideIsBounded(t *testing.T) {
	fs := sealedAfter(t, session(0))
	for _, name := range segmentsOf(fs) {
		if bytes.Contains(bytesOf(t, fs, name), []byte("<50>")) {
			if err := fs.Damage(name, func(b []byte) []byte { clear(b[:1024]); return b }); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := open(t, small(fs))
	if st := s.Stats(); st.Aside != disk.MinSegment {
		t.Errorf("%d bytes are aside", st.Aside)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := fs.OpenFile("/store/damaged-999999.bin", os.O_RDWR|os.O_CREATE, 0)
	if err == nil {
		err = errors.Join(f.Truncate(64<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	damage(t, fs, "<10>", 0, 1)
	before := len(fs.Names())
	s = open(t, small(fs))
	if st := s.Stats(); st.Aside != 64<<20+disk.MinSegment {
		t.Errorf("opened again: %d bytes are aside", st.Aside)
	}
	positions(t, s)
	if st := s.Stats(); st.Damaged == 0 || len(fs.Names()) > before+1 {
		t.Errorf("%d places damaged, files %v", st.Damaged, fs.Names())
	}
}
