package store

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/busylamp/busylamp"
	faults "github.com/busylamp/busylamp/integration/record"
)

// unlockable is a file system that keeps no locks, as some network ones do.
type unlockable struct{ vfs.FS }

type nothing struct{}

func (nothing) Close() error { return nil }

func (unlockable) Lock(string) (io.Closer, error) { return nothing{}, nil }

// TestSecondProcess: a directory that another process has is refused, with a word on what to
// do, and neither takes harm; when that process has been killed, it is free.
func TestSecondProcess(t *testing.T) {
	t.Parallel()
	dir := place(t)
	cmd, out := start(t, dir, "STORE_TEST_HOLD=1")
	if _, err := io.ReadFull(out, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir, Options{})
	if !errors.Is(err, errInUse) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "state:") {
		t.Errorf("Open says %v", err)
	}
	if n := len(aside(t, dir)); n != 0 {
		t.Error("the other's store was set aside")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	commit(t, open(t, dir, Options{}), puts(0, 1)...)
	faults.Fault(t, "second-sidecar", 1, "refused, naming directory and fix; free again once the first is dead")
}

// TestSecondInProcess: the same within one process, where locks on files do not tell.
func TestSecondInProcess(t *testing.T) {
	t.Parallel()
	dir := place(t)
	s := open(t, dir, Options{})
	if _, err := Open(dir, Options{}); !errors.Is(err, errInUse) {
		t.Errorf("Open says %v", err)
	}
	commit(t, s, puts(0, 1)...)
}

// TestFenced: where the lock does not keep a second one out, the first learns at its next
// commit that the store is not its own any more, for good, and leaves it alone.
func TestFenced(t *testing.T) {
	t.Parallel()
	dir := place(t)
	first := open(t, dir, Options{fs: unlockable{vfs.Default}})
	commit(t, first, puts(0, 10)...)
	second := open(t, dir, Options{fs: unlockable{vfs.Default}})
	for range 2 {
		err := first.Commit(context.Background(), puts(10, 20))
		if !errors.Is(err, busylamp.ErrFenced) || !strings.Contains(err.Error(), dir) {
			t.Fatalf("Commit says %v", err)
		}
	}
	if _, err := first.Load(context.Background()); !errors.Is(err, busylamp.ErrFenced) {
		t.Errorf("Load says %v", err)
	}
	commit(t, second, puts(20, 30)...)
	if err := first.Close(); err != nil {
		t.Errorf("Close says %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if got := load(t, open(t, dir, Options{})); len(got) != 20 {
		t.Errorf("%d records, want the first one's 10 and the second one's 10", len(got))
	}
	faults.Fault(t, "second-sidecar", 1, "on a file system without locks: the first one is fenced at its next commit, for good, and writes nothing over the second one's records")
}

// TestFencedMeanwhile: a token that changes while the journal is written, or the database,
// fences it, too: what it wrote the other one has not read.
func TestFencedMeanwhile(t *testing.T) {
	t.Parallel()
	for _, kind := range []errorfs.OpKind{errorfs.OpFileWriteAt, errorfs.OpFileSyncData} {
		dir := place(t)
		var armed atomic.Bool
		fs := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == kind && armed.CompareAndSwap(true, false) {
				return os.WriteFile(filepath.Join(dir, ownerFile), []byte(newToken()), 0o600)
			}
			return nil
		}))
		s := open(t, dir, Options{fs: fs, every: -1})
		commit(t, s, puts(0, 10)...)
		armed.Store(true)
		err := s.Commit(context.Background(), puts(0, 1))
		if kind == errorfs.OpFileSyncData {
			s.mu.Lock()
			err = s.settle()
			s.mu.Unlock()
		}
		if !errors.Is(err, busylamp.ErrFenced) || armed.Load() {
			t.Errorf("operation %v: %v", kind, err)
		}
		if err := s.Commit(context.Background(), nil); !errors.Is(err, busylamp.ErrFenced) {
			t.Errorf("Commit says %v", err)
		}
	}
}

// TestRemovedDirectory: somebody removes the directory of a running sidecar. The store
// begins anew, and says so once.
func TestRemovedDirectory(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"", ownerFile} {
		dir := place(t)
		s := open(t, dir, Options{})
		commit(t, s, puts(0, 10)...)
		if err := os.RemoveAll(dir + "/" + what); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(context.Background(), puts(10, 20)); !errors.Is(err, ErrLost) {
			t.Fatalf("Commit says %v", err)
		}
		commit(t, s, puts(0, 20)...)
		if _, err := Open(dir, Options{}); !errors.Is(err, errInUse) {
			t.Errorf("a second one: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if got := load(t, open(t, dir, Options{})); len(got) != 20 || len(aside(t, dir)) != 0 {
			t.Errorf("%d records, want 20; %d set aside", len(got), len(aside(t, dir)))
		}
	}
}

// TestPermissions: a directory that may not be read is an error that says so. As root,
// nothing may not be read: see TestNotCorrupt.
func TestPermissions(t *testing.T) {
	t.Parallel()
	dir := place(t)
	filled(t, dir)
	if err := os.Chmod(dir, 0); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir, Options{})
	if e := os.Chmod(dir, 0o700); e != nil {
		t.Fatal(e)
	}
	if os.Geteuid() == 0 {
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
	} else if !errors.Is(err, os.ErrPermission) || len(aside(t, dir)) != 0 {
		t.Errorf("Open says %v; %d set aside", err, len(aside(t, dir)))
	}
}

// TestCloseTwice: and from several goroutines at once with a commit.
func TestCloseTwice(t *testing.T) {
	t.Parallel()
	s := open(t, place(t), Options{})
	done := make(chan struct{})
	for range 3 {
		go func() { defer func() { done <- struct{}{} }(); _ = s.Close() }()
	}
	go func() {
		defer func() { done <- struct{}{} }()
		if err := s.Commit(context.Background(), puts(0, 100)); err != nil && !errors.Is(err, errClosed) {
			t.Errorf("Commit says %v", err)
		}
	}()
	for range 4 {
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("hangs")
		}
	}
}
