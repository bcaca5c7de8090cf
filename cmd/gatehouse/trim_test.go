package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// The tables of a position-independent program are relocated, then made read-only:
// they look like the file's pages, and are not.
func TestTrimKeepsWhatWasWritten(t *testing.T) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	page, err := unix.Mmap(int(self.Fd()), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(page) }()
	page[0] = 'x'
	if err := unix.Mprotect(page, unix.PROT_READ); err != nil {
		t.Fatal(err)
	}
	if err := trim(); err != nil {
		t.Fatal(err)
	}
	if page[0] != 'x' {
		t.Errorf("it is %q again, as in the file", page[0])
	}
}

func TestTrimWaitsForTheFirstMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up, done := make(chan struct{}), make(chan error)
		go func() { done <- trimLater(t.Context(), up) }()
		<-time.After(time.Hour) // of the bubble
		begin := time.Now()
		close(up)
		if err := <-done; err != nil || time.Since(begin) != started {
			t.Errorf("trimmed after %v, %v", time.Since(begin), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := trimLater(ctx, make(chan struct{})); err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestTrimGivesBack(t *testing.T) {
	const smaps = `00400000-00e62000 r-xp 00000000 fe:01 77 /usr/bin/gatehouse
Rss:                 100 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00e62000-01a00000 r--p 00a62000 fe:01 77 /usr/bin/gatehouse
Anonymous:             4 kB
01a00000-01a90000 rw-p 01600000 fe:01 77 /usr/bin/gatehouse
Anonymous:             0 kB
70000000-70001000 r--p 00000000 fe:01 78 /usr/bin/other
Anonymous:             0 kB
70002000-70003000 r--p 00000000 00:00 0 
Anonymous:             0 kB
`
	clean, err := cleanMappings(strings.NewReader(smaps), "/usr/bin/gatehouse")
	if err != nil || len(clean) != 1 || clean[0] != (mapping{0x400000, 0xe62000}) {
		t.Errorf("got %x, %v", clean, err)
	}
}
