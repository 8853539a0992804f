package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/busylamp/busylamp"
	faults "github.com/busylamp/busylamp/integration/record"
)

// few are the records of the store that TestFlippedEverywhere damages: half of them in a
// table, a quarter in the log, a quarter in the journal.
const few = 8

// fewStore makes such a store, as it is while a sidecar runs, and returns its files.
func fewStore(t *testing.T) map[string][]byte {
	t.Helper()
	dir := place(t)
	s := open(t, dir, Options{every: -1})
	commit(t, s, puts(0, few/2)...)
	settled(t, s)
	s.mu.Lock()
	err := s.db.Flush()
	s.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	commit(t, s, puts(few/2, few*3/4)...)
	settled(t, s)
	commit(t, s, puts(few*3/4, few)...)
	s.mu.Lock()
	defer s.mu.Unlock()
	content := map[string][]byte{}
	for _, name := range files(t, dir, "*") {
		if content[filepath.Base(name)], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	return content
}

// TestFlippedEverywhere: a byte of a store's file is not what was written, at every offset
// of every file in turn (in make soak; at every 41st otherwise). The store opens, gives
// only what was written, and takes records again; what it cannot use it sets aside, and
// says so.
func TestFlippedEverywhere(t *testing.T) {
	t.Parallel()
	step := 41
	if faults.Soak() {
		step = 1
	}
	content := fewStore(t)
	var flips, whole, some, anew atomic.Int64
	t.Run("files", func(t *testing.T) {
		for name, data := range content {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				for at := len(name) % step; at < len(data); at += step {
					flips.Add(1)
					switch n, aside := flipped(t, content, name, at); {
					case n == few:
						whole.Add(1)
					case aside:
						anew.Add(1)
					default:
						some.Add(1)
					}
				}
			})
		}
	})
	if anew.Load() == 0 || whole.Load() == 0 {
		t.Errorf("%d times set aside, %d times without harm: this test does not reach what it means to", anew.Load(), whole.Load())
	}
	faults.Fault(t, "disk-corrupt", int(flips.Load()), "a byte flipped in the files of a store: %d times all records came back, %d times some, and %d times the store was set aside; never a wrong one",
		whole.Load(), some.Load(), anew.Load())
}

// flipped opens a copy of a store with one byte flipped. It returns how many records came
// back, and whether it was set aside.
func flipped(t *testing.T, content map[string][]byte, name string, at int) (n int, moved bool) {
	t.Helper()
	base, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	dir := filepath.Join(base, "publications")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for file, data := range content {
		if file == name {
			data = append([]byte(nil), data...)
			data[at] ^= 0x41
		}
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log captured
	s := open(t, dir, Options{Log: log.logger()})
	defer s.Close()
	for k, r := range load(t, s) {
		var i int
		if _, err := fmt.Sscanf(string(k.presentity), "sip:user%d@", &i); err != nil || i >= few || r.Tag != record(i).Tag || r.State != busylamp.OnThePhone {
			t.Fatalf("%s, byte %d: read %+v, which nobody wrote", name, at, r)
		}
		n++
	}
	if err := retake(s); err != nil {
		t.Fatalf("%s, byte %d: the store takes no records: %v", name, at, err)
	}
	return n, len(aside(t, dir)) > 0
}

// retake commits something, after ErrLost again.
func retake(s *Store) (err error) {
	for range 2 {
		if err = s.Commit(context.Background(), puts(few, few+1)); err == nil {
			return nil
		}
	}
	return err
}
