package store

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestStaleJournal: a journal of another database, of another life, or from before the
// database took what is in it, changes nothing, nor does what is no journal.
func TestStaleJournal(t *testing.T) {
	t.Parallel()
	dir := place(t)
	s := open(t, dir, Options{every: -1})
	commit(t, s, tagged(1, "old"), tagged(2, "old"))
	before := copied(t, dir)
	settled(t, s)
	gone := tagged(2, "")
	gone.Delete = true
	commit(t, s, tagged(1, "new"), gone)
	settled(t, s)
	const want = "1=new"
	other, _ := journalOf(t)
	for name, make := range map[string]func(at string) error{
		"from before":      func(at string) error { return os.Rename(filepath.Join(before, journalFile), at) },
		"another store's":  func(at string) error { return os.Rename(filepath.Join(other, journalFile), at) },
		"none":             func(at string) error { return nil },
		"empty":            func(at string) error { return os.WriteFile(at, nil, 0o600) },
		"garbage":          func(at string) error { return os.WriteFile(at, noise(3*maxJournal), 0o600) },
		"a full directory": func(at string) error { return os.MkdirAll(filepath.Join(at, "a", "b"), 0o700) },
		"a pipe":           func(at string) error { return syscall.Mkfifo(at, 0o600) },
		"a dangling link":  func(at string) error { return os.Symlink("nowhere", at) },
	} {
		dir := copied(t, dir)
		at := filepath.Join(dir, journalFile)
		if err := os.Remove(at); err != nil {
			t.Fatal(err)
		}
		if err := make(at); err != nil {
			t.Fatal(err)
		}
		var log captured
		if got := tags(t, dir, Options{Log: log.logger()}); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if sound := name == "from before" || name == "another store's" || name == "none" || name == "a dangling link"; sound == (log.String() != "") {
			t.Errorf("%s: the log says %s", name, log.String())
		}
		s := open(t, dir, Options{every: -1})
		commit(t, s, tagged(3, "more"))
		if s.journal.broken {
			t.Errorf("%s: the journal is not used again", name)
		}
		if got := tags(t, copied(t, dir), Options{}); got != want+" 3=more" {
			t.Errorf("%s: then %s", name, got)
		}
		_ = s.Close()
	}
	// One of an earlier life, whose changes a later one has replaced.
	dir, _ = journalOf(t)
	stale, err := os.ReadFile(filepath.Join(dir, journalFile))
	if err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{})
	commit(t, s, tagged(10, "newer"))
	_ = s.Close()
	if err := os.WriteFile(filepath.Join(dir, journalFile), stale, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tags(t, dir, Options{}); !strings.Contains(got, "10=newer") {
		t.Errorf("after an earlier life's journal: %s", got)
	}
}

// TestBatchesThatDoNotCount: one that does not follow the one before it, and one that whoever
// wrote it did not know the salt of, end a journal.
func TestBatchesThatDoNotCount(t *testing.T) {
	t.Parallel()
	now := newFakeClock().clock(1).now()
	for _, c := range []struct {
		name string
		skip uint64 // numbers
		salt uint64 // of the second batch
		want string
	}{
		{"the next", 0, 7, ""},
		{"one is missing", 1, 7, "batch 3 follows batch 1"},
		{"from before", ^uint64(0), 7, "batch 1 follows batch 1"},
		{"another's", 0, 8, "checksum"},
	} {
		j := journal{mark: mark{salt: 7}}
		j.add(puts(10, 11), now)
		j.mark.number += c.skip
		j.mark.salt = c.salt
		second := j.add(puts(11, 12), now)
		head := binary.BigEndian.AppendUint64([]byte(journalMagic), 7)
		kept, err := mark{salt: 7}.after(slices.Concat(head, j.kept, make([]byte, 4)))
		if c.want == "" {
			if err != nil || len(kept) != len(j.kept) {
				t.Errorf("%s: %d bytes of %d, %v", c.name, len(kept), len(j.kept), err)
			}
		} else if len(kept) != second || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d bytes, want %d: %v", c.name, len(kept), second, err)
		}
	}
}
