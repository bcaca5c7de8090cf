package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// socketPrefix begins an address that names a passed socket.
const socketPrefix = "systemd:"

// firstSocket is the first descriptor that a service manager passes (sd_listen_fds(3)).
const firstSocket = 3

// mostSockets bounds what LISTEN_FDS may say.
const mostSockets = 1024

// Sockets are those that a service manager passed to this process. A nil one holds
// none.
type Sockets struct {
	mu     sync.Mutex
	byName map[string][]*os.File
	taken  []string
}

// PassedSockets takes the sockets that the environment speaks of: LISTEN_PID,
// LISTEN_FDS and LISTEN_FDNAMES (sd_listen_fds(3)). They are kept from processes
// that this one starts. Call it once, before anything else opens descriptors.
func PassedSockets(getenv func(string) string) (*Sockets, error) {
	s := &Sockets{byName: make(map[string][]*os.File)}
	count := getenv("LISTEN_FDS")
	if count == "" || getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return s, nil // meant for another process, or for none
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > mostSockets {
		return nil, fmt.Errorf("LISTEN_FDS is %q, not a number from 0 to %d", count, mostSockets)
	}
	var names []string
	if all := getenv("LISTEN_FDNAMES"); all != "" {
		if names = strings.Split(all, ":"); len(names) != n {
			return nil, fmt.Errorf("LISTEN_FDNAMES has %d names for %d sockets", len(names), n)
		}
	}
	for i := range n {
		name := "unknown" // as systemd says
		if names != nil {
			name = names[i]
		}
		closeOnExec(firstSocket + i)
		s.byName[name] = append(s.byName[name], os.NewFile(uintptr(firstSocket+i), name))
	}
	return s, nil
}

// take makes a listener of the socket with that name; it can be taken once.
func (s *Sockets) take(name string, unix bool) (net.Listener, error) {
	if s == nil {
		return nil, errors.New("no service manager passed sockets")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	files := s.byName[name]
	switch {
	case slices.Contains(s.taken, name):
		return nil, fmt.Errorf("the passed socket %q serves another listener already", name)
	case len(files) == 0:
		return nil, fmt.Errorf("the service manager passed no socket %q: FileDescriptorName= in the .socket unit names it", name)
	case len(files) > 1:
		return nil, fmt.Errorf("the service manager passed %d sockets %q: give each a FileDescriptorName= of its own", len(files), name)
	}
	l, err := net.FileListener(files[0])
	if err != nil {
		return nil, fmt.Errorf("the passed socket %q cannot be listened on: %w", name, err)
	}
	_, isUnix := l.(*net.UnixListener)
	_, isTCP := l.(*net.TCPListener)
	if unix != isUnix || unix == isTCP {
		return nil, errors.Join(fmt.Errorf("the passed socket %q is %s", name, l.Addr().Network()), l.Close())
	}
	s.taken = append(s.taken, name)
	return l, files[0].Close() // the listener has a descriptor of its own
}

// Unused names the sockets that no listener took.
func (s *Sockets) Unused() []string {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.byName {
		if !slices.Contains(s.taken, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
