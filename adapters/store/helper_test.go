package store

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/busylamp/busylamp"
)

// TestMain makes the test binary the child that some tests kill, too.
func TestMain(m *testing.M) {
	if dir := os.Getenv("STORE_TEST_CHILD"); dir != "" {
		os.Exit(child(dir))
	}
	goleak.VerifyTestMain(m)
}

// fakeClock is a clock that tests set.
type fakeClock struct {
	mu   sync.Mutex
	wall time.Time
	up   time.Duration
}

func (f *fakeClock) clock(boot uint64) *clock {
	return &clock{boot: boot,
		wall: func() time.Time { f.mu.Lock(); defer f.mu.Unlock(); return f.wall },
		up:   func() time.Duration { f.mu.Lock(); defer f.mu.Unlock(); return f.up }}
}

func (f *fakeClock) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wall, f.up = f.wall.Add(d), f.up+d
}

func newFakeClock() *fakeClock {
	return &fakeClock{wall: time.Date(2026, 11, 21, 15, 4, 5, 0, time.UTC), up: time.Hour}
}

// captured is a log that tests read.
type captured struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (c *captured) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.b.Write(p)
}
func (c *captured) String() string       { c.mu.Lock(); defer c.mu.Unlock(); return c.b.String() }
func (c *captured) logger() *slog.Logger { return slog.New(slog.NewTextHandler(c, nil)) }

// place is where a test's store is: a directory of its own beside nothing else.
func place(t testing.TB) string { return filepath.Join(t.TempDir(), "publications") }

func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func record(i int) busylamp.Record {
	return busylamp.Record{Publisher: "presence", Presentity: busylamp.Presentity(fmt.Sprintf("sip:user%07d@example.com", i)),
		Tag: fmt.Sprintf("tag-%d", i), State: busylamp.OnThePhone, Expires: 10 * time.Minute, Refresh: 8 * time.Minute}
}

func puts(from, to int) []busylamp.StoreOp {
	ops := make([]busylamp.StoreOp, 0, to-from)
	for i := from; i < to; i++ {
		ops = append(ops, busylamp.StoreOp{Record: record(i)})
	}
	return ops
}

func commit(t testing.TB, s *Store, ops ...busylamp.StoreOp) {
	t.Helper()
	if err := s.Commit(context.Background(), ops); err != nil {
		t.Fatal(err)
	}
}

type id struct {
	publisher  string
	presentity busylamp.Presentity
}

func load(t testing.TB, s *Store) map[id]busylamp.Record {
	t.Helper()
	records, err := s.Load(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	m := map[id]busylamp.Record{}
	for _, r := range records {
		k := id{r.Publisher, r.Presentity}
		if _, twice := m[k]; twice {
			t.Fatalf("%v was loaded twice", k)
		}
		m[k] = r
	}
	return m
}

// settled brings what was committed into the database.
func settled(t testing.TB, s *Store) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.settle(); err != nil {
		t.Fatal(err)
	}
}

// entries counts what the database holds, dead or alive.
func entries(t testing.TB, s *Store) (n int) {
	t.Helper()
	settled(t, s)
	it, err := s.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		if it.Key()[0] != 0 {
			n++
		}
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

// aside returns what was set aside beside a directory.
func aside(t testing.TB, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(dir + ".bad-*")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// tagged puts a record with a tag.
func tagged(i int, tag string) busylamp.StoreOp {
	r := record(i)
	r.Tag = tag
	return busylamp.StoreOp{Record: r}
}
