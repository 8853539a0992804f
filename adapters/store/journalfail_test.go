package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// halves is a disk of which the journal's file, or all others, cannot be written.
type halves struct {
	journal, others atomic.Bool // fail
	refused         atomic.Int64
}

func (*halves) String() string { return "halves" }

func (h *halves) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || op.Kind == errorfs.OpFileClose || op.Kind == errorfs.OpLock {
		return nil
	}
	if ours := filepath.Base(op.Path) == journalFile; ours && h.journal.Load() || !ours && h.others.Load() {
		h.refused.Add(1)
		return &os.PathError{Op: "write", Path: op.Path, Err: syscall.EIO}
	}
	return nil
}

// TestJournalFails: while the journal cannot be written, each commit goes to the database at
// once and says nothing; when it can, it is used again. That it cannot is logged once.
func TestJournalFails(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"the start", "the midst"} {
		var log captured
		var h halves
		dir := place(t)
		h.journal.Store(from == "the start")
		s := open(t, dir, Options{fs: errorfs.Wrap(vfs.Default, &h), every: -1, Log: log.logger()})
		commit(t, s, tagged(1, "a"))
		h.journal.Store(true)
		for _, tag := range []string{"b", "c", "d"} {
			commit(t, s, tagged(1, tag), tagged(2, tag))
			if n := len(s.journal.kept); n != 0 {
				t.Errorf("from %s: %d bytes are kept that are nowhere else", from, n)
			}
		}
		if got := tags(t, copied(t, dir), Options{}); got != "1=d 2=d" {
			t.Errorf("from %s: killed, it leaves %s", from, got)
		}
		if n := strings.Count(log.String(), "cannot be written"); n != 1 || h.refused.Load() < 3 {
			t.Errorf("from %s: told %d times, %d writes refused: %s", from, n, h.refused.Load(), log.String())
		}
		h.journal.Store(false)
		commit(t, s, tagged(1, "e"))
		if len(s.journal.kept) == 0 {
			t.Errorf("from %s: the journal is not used again", from)
		}
		if got := tags(t, copied(t, dir), Options{}); got != "1=e 2=d" {
			t.Errorf("from %s: killed with the journal, it leaves %s", from, got)
		}
		h.journal.Store(true)
		h.others.Store(true)
		kept, number := len(s.journal.kept), s.journal.mark.number
		if err := s.Commit(context.Background(), puts(3, 4)); !errors.Is(err, syscall.EIO) {
			t.Errorf("from %s: with neither, Commit says %v", from, err)
		}
		if len(s.journal.kept) != kept || s.journal.mark.number != number {
			t.Errorf("from %s: what was refused is kept", from)
		}
		_ = s.Close()
	}
}

// TestSettlingFails: the database fails at what has been promised already. Load has it all
// the same, and so has the next life after a kill; the next Commit says what is wrong; and
// when the disk is well, all of it is in the database.
func TestSettlingFails(t *testing.T) {
	t.Parallel()
	var h halves
	clock := newFakeClock()
	dir := place(t)
	s := open(t, dir, Options{fs: errorfs.Wrap(vfs.Default, &h), every: -1, clock: clock.clock(1)})
	commit(t, s, tagged(1, "a"), tagged(2, "a"))
	settled(t, s)
	gone := tagged(2, "")
	gone.Delete = true
	commit(t, s, tagged(1, "b"), gone, tagged(3, "b"))
	const want = "1=b 3=b"
	h.others.Store(true)
	s.mu.Lock()
	err := s.settle()
	s.mu.Unlock()
	if !errors.Is(err, syscall.EIO) {
		t.Fatalf("settling says %v", err)
	}
	for range 2 {
		if err := s.Commit(context.Background(), puts(1, 2)); !errors.Is(err, syscall.EIO) {
			t.Fatalf("Commit says %v", err)
		}
		if got := load(t, s); len(got) != 2 || got[id{"presence", record(1).Presentity}].Tag != "b" {
			t.Errorf("Load has %v", got)
		}
		if got := tags(t, copied(t, dir), Options{clock: clock.clock(1)}); got != want {
			t.Errorf("killed, it leaves %s, want %s", got, want)
		}
		clock.pass(minPause)
	}
	h.others.Store(false)
	if err := os.Remove(filepath.Join(dir, journalFile)); err != nil { // it is in memory, too
		t.Fatal(err)
	}
	clock.pass(maxPause)
	commit(t, s, tagged(4, "c"))
	if got := tags(t, copied(t, dir), Options{clock: clock.clock(1)}); got != want+" 4=c" {
		t.Errorf("mended and killed, it leaves %s", got)
	}
	settled(t, s)
	if n := entries(t, s); n != 3 {
		t.Errorf("%d entries in the database, want 3", n)
	}
}

// TestHeld: there is no room for the database, which is spared, and what was committed stays
// in the journal. The next Commit says so, and Load has everything.
func TestHeld(t *testing.T) {
	t.Parallel()
	clock := newFakeClock()
	dir := place(t)
	s := open(t, dir, Options{every: -1, clock: clock.clock(1), reserve: 1})
	commit(t, s, tagged(1, "a"))
	s.mu.Lock()
	s.reserve = 1 << 62
	err := s.settle()
	s.mu.Unlock()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("settling says %v", err)
	}
	if err := s.Commit(context.Background(), nil); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Commit says %v", err)
	}
	if got := load(t, s); len(got) != 1 {
		t.Errorf("Load has %v", got)
	}
	if got := tags(t, copied(t, dir), Options{clock: clock.clock(1)}); got != "1=a" {
		t.Errorf("killed, it leaves %s", got)
	}
	s.mu.Lock()
	s.reserve = 1
	s.mu.Unlock()
	commit(t, s, tagged(2, "b"))
	if got := tags(t, copied(t, dir), Options{clock: clock.clock(1)}); got != "1=a 2=b" {
		t.Errorf("with room again, it leaves %s", got)
	}
	if n := entries(t, s); n != 2 {
		t.Errorf("%d entries in the database, want 2", n)
	}
}

// TestStartWithJournalOnFullDisk: a sidecar was killed with changes in its journal, and the
// next one starts on a full disk. It learns of all of them, now and when there is room.
func TestStartWithJournalOnFullDisk(t *testing.T) {
	t.Parallel()
	dir, _ := journalOf(t)
	for at := range int64(12) {
		dir := copied(t, dir)
		clock := newFakeClock()
		clock.wall = open(t, place(t), Options{}).clock.wall()
		f := newFailing(syscall.ENOSPC, at)
		s := open(t, dir, Options{fs: errorfs.Wrap(vfs.Default, f), clock: clock.clock(1), reserve: -1, every: -1})
		if n := len(load(t, s)); n != 13+7 {
			t.Errorf("change %d: %d records, want 20", at, n)
		}
		f.mended.Store(true)
		clock.pass(maxPause)
		commit(t, s, tagged(30, "k"))
		if n := len(load(t, s)); n != 13+7+1 {
			t.Errorf("change %d: %d records with room again, want 21", at, n)
		}
		_ = s.Close()
	}
}
