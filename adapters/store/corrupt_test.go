package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/busylamp/busylamp"
	faults "github.com/busylamp/busylamp/integration/record"
)

// written is how many records filled puts into a store: half of them in a table, half in
// the log.
const written = 2000

func filled(t *testing.T, dir string) {
	t.Helper()
	s := open(t, dir, Options{})
	commit(t, s, puts(0, written/2)...)
	settled(t, s)
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	commit(t, s, puts(written/2, written*3/4)...)
	settled(t, s)
	commit(t, s, puts(written*3/4, written)...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// damage does something to a file.
var damage = map[string]func(name string, data []byte) error{
	"empty":   func(name string, data []byte) error { return os.Truncate(name, 0) },
	"cut":     func(name string, data []byte) error { return os.Truncate(name, int64(len(data)*2/5)) },
	"garbage": func(name string, data []byte) error { return os.WriteFile(name, noise(len(data)+1), 0o600) },
	"zeros":   func(name string, data []byte) error { return os.WriteFile(name, make([]byte, len(data)), 0o600) },
	"flip": func(name string, data []byte) error {
		data[len(data)/3] ^= 0x10
		return os.WriteFile(name, data, 0o600)
	},
	"removed":   func(name string, data []byte) error { return os.Remove(name) },
	"directory": func(name string, data []byte) error { return errors.Join(os.Remove(name), os.Mkdir(name, 0o700)) },
}

func noise(n int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// TestDamagedFiles: whatever befalls a file of the store, it opens, gives what can be read
// and nothing else, says what it did, and takes records again.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	var damaged, anew atomic.Int64
	t.Run("files", func(t *testing.T) {
		for _, kind := range []string{"MANIFEST-*", "marker.manifest.*", "marker.format-version.*", "OPTIONS-*", "*.log", "*.sst", ownerFile, journalFile, "LOCK"} {
			for how, do := range damage {
				t.Run(kind+" "+how, func(t *testing.T) {
					t.Parallel()
					dir := place(t)
					filled(t, dir)
					for _, name := range files(t, dir, kind) {
						data, err := os.ReadFile(name)
						if err != nil {
							t.Fatal(err)
						}
						if len(data) == 0 {
							data = []byte{0}
						}
						if err := do(name, data); err != nil {
							t.Fatal(err)
						}
						damaged.Add(1)
					}
					outcome(t, dir)
					anew.Add(int64(len(aside(t, dir))))
				})
			}
		}
	})
	faults.Fault(t, "disk-corrupt", int(damaged.Load()), "files emptied, cut, overwritten, flipped, removed, turned into directories: %d times the store was set aside and reported; what was read was always what had been written, and records were taken again",
		anew.Load())
}

func files(t *testing.T, dir, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s in %s (%v)", pattern, dir, err)
	}
	return names
}

// outcome opens a damaged store and judges what it does.
func outcome(t *testing.T, dir string) {
	t.Helper()
	var log captured
	s := open(t, dir, Options{Log: log.logger()})
	got := load(t, s)
	for i := range written {
		r := record(i)
		g, ok := got[id{r.Publisher, r.Presentity}]
		if ok && (g.Tag != r.Tag || g.State != r.State) {
			t.Fatalf("read %+v, which nobody wrote", g)
		}
		delete(got, id{r.Publisher, r.Presentity})
	}
	if len(got) != 0 {
		t.Fatalf("read %d records that nobody wrote", len(got))
	}
	err := s.Commit(context.Background(), puts(written, written+10))
	if errors.Is(err, ErrLost) {
		err = s.Commit(context.Background(), puts(written, written+10))
	}
	if err != nil {
		t.Fatalf("the store takes no records: %v", err)
	}
	now := load(t, s)
	if n := len(aside(t, dir)); n > 1 || (n == 1) != strings.Contains(log.String(), "set aside") {
		t.Errorf("%d set aside; the log says: %s", n, log.String())
	} else if n == 1 && (len(now) != 10 || !strings.Contains(log.String(), dir+".bad-")) {
		t.Errorf("began anew with %d records, want the 10 that were put since; the log says: %s", len(now), log.String())
	}
	t.Logf("%d records, %d set aside", len(now)-10, len(aside(t, dir)))
}

// TestForeign: what is no store of ours, or of a later version, is set aside whole, and
// nothing in it is changed.
func TestForeign(t *testing.T) {
	t.Parallel()
	set := func(t *testing.T, dir string, key, value []byte) {
		db, err := pebble.Open(dir, &pebble.Options{Logger: pebbleLog{log: new(captured).logger(), gate: newGate(vfs.Default)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Set(key, value, pebble.Sync), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		make func(t *testing.T, dir string)
		want string // in the log
	}{
		{"a file", func(t *testing.T, dir string) {
			if err := os.WriteFile(dir, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not a directory"},
		{"another program's database", func(t *testing.T, dir string) { set(t, dir, []byte("a"), []byte("b")) }, "not a store of busylamp's"},
		{"a later version", func(t *testing.T, dir string) { set(t, dir, formatKey, []byte("busylamp publications 2")) }, "publications 2"},
		{"an old LevelDB", func(t *testing.T, dir string) {
			if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "CURRENT"), []byte("MANIFEST-000001\n"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}, "format"},
		{"a later pebble's", func(t *testing.T, dir string) {
			filled(t, dir)
			for _, name := range files(t, dir, "marker.format-version.*") {
				if err := os.Rename(name, filepath.Join(dir, "marker.format-version.000999.999")); err != nil {
					t.Fatal(err)
				}
			}
		}, "999"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var log captured
			dir := place(t)
			c.make(t, dir)
			s := open(t, dir, Options{Log: log.logger()})
			if n := len(load(t, s)); n != 0 {
				t.Errorf("begins with %d records", n)
			}
			commit(t, s, puts(0, 10)...)
			if n := len(aside(t, dir)); n != 1 || !strings.Contains(log.String(), c.want) || !strings.Contains(log.String(), aside(t, dir)[0]) {
				t.Errorf("%d set aside; want one, and %q in the log: %s", n, c.want, log.String())
			}
			if c.name == "a file" {
				if kept, err := os.ReadFile(aside(t, dir)[0]); string(kept) != "precious" {
					t.Errorf("the file has become %q (%v)", kept, err)
				}
			}
		})
	}
}

// TestAsideIsBounded: of what is set aside the newest three stay, nothing is overwritten
// even within a second, and what only looks alike is left alone.
func TestAsideIsBounded(t *testing.T) {
	t.Parallel()
	f := newFakeClock()
	dir := place(t)
	for _, alike := range []string{".bad-", ".bad-20200101T000000.txt", ".badly", ".bad-20200101T000000-x"} {
		if err := os.WriteFile(dir+alike, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 6 {
		if err := os.WriteFile(dir, fmt.Append(nil, n), 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, Options{clock: f.clock(1)}) // twice in each second
		_ = s.Close()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if n%2 == 1 {
			f.wall = f.wall.Add(1e9)
		}
	}
	kept := map[string]bool{}
	for _, name := range aside(t, dir) {
		if data, err := os.ReadFile(name); err == nil && len(data) > 0 {
			kept[string(data)] = true
		}
	}
	if len(kept) != 3 || !kept["3"] || !kept["4"] || !kept["5"] {
		t.Errorf("kept %v, want 3, 4 and 5", kept)
	}
	if n := len(aside(t, dir)); n != 3+3 {
		t.Errorf("%d names, want 3 and the 3 alike: %v", n, aside(t, dir))
	}
}

// TestCorruptRecords: records whose bytes are not what was written are dropped, counted and
// told of; the others stay.
func TestCorruptRecords(t *testing.T) {
	t.Parallel()
	var log captured
	s := open(t, place(t), Options{Log: log.logger()})
	commit(t, s, puts(0, 10)...)
	settled(t, s)
	key, value := encoded(record(3))
	value[len(value)/2]++
	if err := errors.Join(s.db.Set(key, value, nil), s.db.Set([]byte("no separator"), value, nil)); err != nil {
		t.Fatal(err)
	}
	if n := len(load(t, s)); n != 9 {
		t.Errorf("loaded %d, want 9", n)
	}
	if !strings.Contains(log.String(), "records=2") || !strings.Contains(log.String(), "no separator") {
		t.Errorf("the log says %s", log.String())
	}
	if n := entries(t, s); n != 9 {
		t.Errorf("%d entries are left, want 9", n)
	}
}

// TestNotCorrupt: a directory that cannot be used as it is, through no fault of what is in
// it, is an error, and nothing is set aside.
func TestNotCorrupt(t *testing.T) {
	t.Parallel()
	for _, number := range []error{syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.EMFILE, syscall.ENOMEM} {
		dir := place(t)
		filled(t, dir)
		denied := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpOpen && strings.Contains(op.Path, "MANIFEST") {
				return &os.PathError{Op: "open", Path: op.Path, Err: number}
			}
			return nil
		}))
		s, err := Open(dir, Options{fs: denied})
		if !errors.Is(err, number) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%v: Open says %v", number, err)
		}
		if err == nil {
			_ = s.Close()
		}
		if n := len(aside(t, dir)); n != 0 {
			t.Errorf("%v: set aside", number)
		}
		if n := len(load(t, open(t, dir, Options{}))); n != written {
			t.Errorf("%v: %d records afterwards", number, n)
		}
	}
}

// TestRotWhileRunning: a table rots while the store is open. The compaction that finds it
// does not spin, the store begins anew, and the caller learns that it has.
func TestRotWhileRunning(t *testing.T) {
	t.Parallel()
	var log captured
	f := newFakeClock()
	dir := place(t)
	s := open(t, dir, Options{Log: log.logger(), clock: f.clock(1)})
	commit(t, s, puts(0, written)...)
	settled(t, s)
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, name := range files(t, dir, "*.sst") {
		if err := os.WriteFile(name, bytes.Repeat([]byte{7}, 4096), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lost := 0
	for range 50 { // flushes enough that there is a compaction
		switch err := s.Commit(context.Background(), puts(0, written)); {
		case errors.Is(err, ErrLost):
			lost++
		case err == nil && lost > 0:
			if got := load(t, s); len(got) != written || len(aside(t, dir)) != 1 {
				t.Errorf("%d records, %d set aside; the log says %s", len(got), len(aside(t, dir)), log.String())
			}
			return
		case err != nil:
			f.pass(maxPause)
		default:
			s.mu.Lock()
			if s.db != nil && s.settle() == nil {
				_ = s.db.Flush()
			}
			s.mu.Unlock()
		}
	}
	t.Fatalf("lost %d times; the log says %s", lost, log.String())
}

// TestTornLog: the log is cut at any length, as a cut of power may leave it. What is before
// the cut is there, commit by commit; nothing is set aside for it.
func TestTornLog(t *testing.T) {
	t.Parallel()
	whole := place(t)
	s := open(t, whole, Options{})
	for i := range 20 {
		commit(t, s, busylamp.StoreOp{Record: record(2 * i)}, busylamp.StoreOp{Record: record(2*i + 1)})
		settled(t, s)
	}
	s.mu.Lock() // the files as they are while it runs
	log := files(t, whole, "*.log")[0]
	data, err := os.ReadFile(log)
	names := files(t, whole, "*")
	s.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	for size := 0; size <= len(data); size += 61 {
		dir := place(t)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if name == log {
				b = b[:min(size, len(b))]
			}
			if err = errors.Join(err, os.WriteFile(filepath.Join(dir, filepath.Base(name)), b, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		s := open(t, dir, Options{})
		n := len(load(t, s))
		if _ = s.Close(); n%2 != 0 || n < last || len(aside(t, dir)) != 0 {
			t.Fatalf("cut to %d bytes: %d records after %d at a shorter length, %d set aside", size, n, last, len(aside(t, dir)))
		}
		last = n
	}
	if last < 38 {
		t.Errorf("of the whole log %d records came back, want 40 or, without its last bytes, 38", last)
	}
}
