// Package stack starts and ends the real parts of a busylamp installation on loopback:
// Kamailio as proxy and as presence server (kamailio-cfg/sample), the sidecar, phones, a
// watcher, sipp, and stand-ins that record. The demo and the end-to-end tests are built on
// it.
//
// Times are those that the kernel gave to a packet when it arrived at a socket of ours;
// on loopback that is when its sender let go of it.
package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Stack is a set of running parts with one folder for their files. What is started
// through it ends with Close.
type Stack struct {
	// Dir holds logs, configurations and sockets. Close leaves it; see Remove.
	Dir string

	mu      sync.Mutex
	closers []func() error
	names   map[string]int
	died    error
	closed  bool
}

// New returns an empty stack.
func New() (*Stack, error) {
	dir, err := os.MkdirTemp("", "busylamp-")
	if err != nil {
		return nil, err
	}
	return &Stack{Dir: dir, names: make(map[string]int)}, nil
}

// Close ends everything, what was started last first.
func (s *Stack) Close() error {
	s.mu.Lock()
	closers := s.closers
	s.closers, s.closed = nil, true
	s.mu.Unlock()
	var errs []error
	for i := len(closers) - 1; i >= 0; i-- {
		errs = append(errs, closers[i]())
	}
	return errors.Join(errs...)
}

// Remove deletes the stack's folder.
func (s *Stack) Remove() error { return os.RemoveAll(s.Dir) }

// onClose has f called by Close.
func (s *Stack) onClose(f func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closers = append(s.closers, f)
}

// file returns the path of a new file in the stack's folder.
func (s *Stack) file(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[name]++
	if n := s.names[name]; n > 1 {
		ext := filepath.Ext(name)
		name = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(name, ext), n, ext)
	}
	return filepath.Join(s.Dir, name)
}

// noteDeath keeps the first death of a process that nobody had asked to end.
func (s *Stack) noteDeath(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.died == nil && !s.closed {
		s.died = err
	}
}

// Err returns why a process ended that should still run, nil if none did.
func (s *Stack) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.died
}

// Wait returns when met does return nil. It gives up after so long, or when a process of
// the stack has died, and then says what met said last.
func (s *Stack) Wait(ctx context.Context, atMost time.Duration, what string, met func() error) error {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	for {
		err := met()
		if err == nil {
			return nil
		}
		if dead := s.Err(); dead != nil {
			return fmt.Errorf("waiting for %s: %w", what, dead)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %v: %w", what, atMost, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Tools returns an error that names the missing programs and how to get them.
func Tools(names ...string) error {
	var missing []string
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("not installed: %s; get them by: make deps", strings.Join(missing, ", "))
}

// root is found once.
var root = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/busylamp/busylamp").Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || dir == "" {
		return "", fmt.Errorf("the folder of module github.com/busylamp/busylamp: run this inside of it (go list: %w)", orUnknown(err))
	}
	return dir, nil
})

func orUnknown(err error) error {
	if err == nil {
		return errors.New("no answer")
	}
	return err
}

// Root returns the folder of busylamp's module, which holds kamailio-cfg.
func Root() (string, error) { return root() }
