package host

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gatehouse/gatehouse/drivers"
)

// patience is how long a file system may take to tell its size. That of a network hangs
// for as long as its server is away.
const patience = 3 * time.Second

// fsInfo is a file system, in bytes; free is what is left to who is not root.
type fsInfo struct{ used, free uint64 }

// looks are the looks at file systems that are under way, at most one a path: what hangs
// cannot be ended, and must hold up nothing else.
type looks struct {
	mu       sync.Mutex
	underWay map[string]*look
}

// look is a look at one file system. Its result is there when done is closed.
type look struct {
	began time.Time
	done  chan struct{}
	info  fsInfo
	err   error
}

// look begins a look at the file system of a path.
func (d *Driver) look(of string) *look { return d.looks.begin(d.root.path(of)) }

// begin looks at a file system, or returns the look that is under way.
func (l *looks) begin(path string) *look {
	l.mu.Lock()
	defer l.mu.Unlock()
	if one := l.underWay[path]; one != nil {
		return one
	}
	one := &look{began: time.Now(), done: make(chan struct{})}
	if l.underWay == nil {
		l.underWay = make(map[string]*look)
	}
	l.underWay[path] = one
	go func() {
		var s unix.Statfs_t
		if one.err = unix.Statfs(path, &s); one.err == nil {
			block := uint64(s.Bsize)
			one.info = fsInfo{used: (s.Blocks - s.Bfree) * block, free: s.Bavail * block}
		}
		l.mu.Lock()
		delete(l.underWay, path)
		l.mu.Unlock()
		close(one.done)
	}()
	return one
}

// wait waits for the look at a path that is under way, if one is, as long as a reading does.
func (l *looks) wait(path string) {
	l.mu.Lock()
	one := l.underWay[path]
	l.mu.Unlock()
	if one != nil {
		_, _ = one.result(context.Background(), path) // nobody wants to know
	}
}

// result is what came of a look, once it has had its time.
func (o *look) result(ctx context.Context, of string) (fsInfo, error) {
	select { // what is there is told, however late
	case <-o.done:
	default:
		timer := time.NewTimer(patience - time.Since(o.began))
		defer timer.Stop()
		select {
		case <-o.done:
		case <-ctx.Done():
			return fsInfo{}, ctx.Err()
		case <-timer.C:
			return fsInfo{}, errHangs(of)
		}
	}
	if o.err != nil {
		return fsInfo{}, fmt.Errorf("cannot look at the file system of %q: %w", of, o.err)
	}
	return o.info, nil
}

// errHangs is the error of a file system that does not answer, by its path.
type errHangs string

func (e errHangs) Error() string {
	return fmt.Sprintf("the file system of %q does not answer: is what it is mounted from there?", string(e))
}

func fsUsed(s fsInfo) drivers.Value { return percent(s.used, s.used+s.free) }
func fsFree(s fsInfo) drivers.Value { return drivers.IntValue(int64(s.free / mib)) }
