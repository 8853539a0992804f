package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/busylamp/busylamp"
	faults "github.com/busylamp/busylamp/integration/record"
)

// owner is who owns a store as the sidecar does: it knows what is to be in it, commits what
// has changed until that succeeds, and puts everything again when it is told to.
type owner struct {
	want  map[id]busylamp.Record
	dirty map[id]bool
	lost  int
	flush bool // pebble's memory to tables now and then, so that there is something to tidy up
}

func newOwner() *owner {
	return &owner{want: map[id]busylamp.Record{}, dirty: map[id]bool{}, flush: true}
}

func (o *owner) change(r busylamp.Record, gone bool) {
	k := id{r.Publisher, r.Presentity}
	if o.want[k] = r; gone {
		delete(o.want, k)
	}
	o.dirty[k] = true
}

func (o *owner) commit(s *Store) error {
	var ops []busylamp.StoreOp
	for k := range o.dirty {
		r, ok := o.want[k]
		r.Publisher, r.Presentity = k.publisher, k.presentity
		ops = append(ops, busylamp.StoreOp{Record: r, Delete: !ok})
	}
	err := s.Commit(context.Background(), ops)
	switch {
	case err == nil:
		clear(o.dirty)
	case errors.Is(err, ErrLost):
		o.lost++
		for k := range o.want {
			o.dirty[k] = true
		}
	}
	return err
}

// step changes some records and commits them.
func (o *owner) step(s *Store, n int) error {
	for i := range 200 {
		r := record(n*60 + i)
		r.Tag = fmt.Sprint(n)
		o.change(r, i%7 == 6)
	}
	err := o.commit(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n%3 != 1 && s.db != nil {
		_ = s.settle() // the next Commit tells
	}
	if o.flush && n%3 == 2 && s.db != nil {
		_ = guard(s.db.Flush)
	}
	return err
}

func (o *owner) isIn(t *testing.T, s *Store) bool {
	t.Helper()
	got := load(t, s)
	return len(got) == len(o.want) && maps.EqualFunc(got, o.want, func(a, b busylamp.Record) bool { return a.Tag == b.Tag })
}

// failing is a file system whose n-th change fails, and those after it until it is mended.
type failing struct {
	number  error
	at      atomic.Int64 // which change
	once    bool         // only that one
	n       atomic.Int64
	mended  atomic.Bool
	refused atomic.Int64
}

// never is a change that is never reached.
const never = 1 << 40

func newFailing(number error, at int64) *failing {
	f := &failing{number: number}
	f.at.Store(at)
	return f
}

func (f *failing) String() string { return "failing" }

func (f *failing) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || op.Kind == errorfs.OpFileClose || op.Kind == errorfs.OpLock {
		return nil
	}
	n, at := f.n.Add(1)-1, f.at.Load()
	if f.mended.Load() || n < at || f.once && n != at {
		return nil
	}
	f.refused.Add(1)
	return &os.PathError{Op: "write", Path: op.Path, Err: f.number}
}

// TestEveryWriteFails: each single change that the store makes on the disk fails in turn,
// with all after it or alone. Nothing panics or hangs, what was acknowledged stays, nothing
// is set aside for it, and once the disk is mended the store takes everything.
func TestEveryWriteFails(t *testing.T) {
	t.Parallel()
	const steps = 7
	run := func(t *testing.T, f *failing) {
		at := f.at.Load()
		clock := newFakeClock()
		dir := place(t)
		o := newOwner()
		s, err := Open(dir, Options{fs: errorfs.Wrap(vfs.Default, f), clock: clock.clock(1), reserve: -1, every: -1})
		if err != nil {
			if !errors.Is(err, f.number) || errors.Is(f.number, syscall.ENOSPC) {
				t.Fatalf("change %d: Open says %v", at, err)
			}
			f.mended.Store(true)
			s = open(t, dir, Options{clock: clock.clock(1), reserve: -1, every: -1})
		}
		defer s.Close()
		var kept map[id]busylamp.Record // what was last acknowledged
		for n := range steps {
			if err := o.step(s, n); err == nil {
				kept = maps.Clone(o.want)
			} else if !errors.Is(err, f.number) {
				t.Fatalf("change %d, step %d: Commit says %v", at, n, err)
			}
			clock.pass(time.Second)
		}
		got := load(t, s)
		for k, r := range kept {
			if !o.dirty[k] && got[k].Tag != r.Tag {
				t.Fatalf("change %d: %v was acknowledged, and is %+v", at, k, got[k])
			}
		}
		f.mended.Store(true)
		for try := 0; o.commit(s) != nil; try++ {
			if clock.pass(maxPause); try == 3 {
				t.Fatalf("change %d: does not recover: %v", at, o.commit(s))
			}
		}
		if !o.isIn(t, s) {
			t.Errorf("change %d: the store does not hold what was committed", at)
		}
		_ = s.Close()
		next := open(t, dir, Options{clock: clock.clock(1)})
		if !o.isIn(t, next) {
			t.Errorf("change %d: the next life does not find what was committed", at)
		}
		_ = next.Close()
		if o.lost > 0 || len(aside(t, dir)) > 0 {
			t.Errorf("change %d: lost %d times, set aside %v", at, o.lost, aside(t, dir))
		}
	}
	whole := newFailing(nil, never)
	run(t, whole)
	total := whole.n.Load()
	t.Logf("%d changes of the disk", total)
	if total < 50 {
		t.Fatal("too few for this test to mean anything")
	}
	var runs, refused atomic.Int64
	t.Run("faults", func(t *testing.T) {
		for name, f := range map[string]struct {
			number      syscall.Errno
			once        bool
			first, step int64
		}{"full": {syscall.ENOSPC, false, 0, 1}, "full for a moment": {syscall.ENOSPC, true, 1, 3}, "broken": {syscall.EIO, false, 2, 3}} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				for at := f.first; at < total; at += f.step {
					failing := newFailing(f.number, at)
					failing.once = f.once
					run(t, failing)
					runs.Add(1)
					refused.Add(failing.refused.Load())
				}
			})
		}
	})
	faults.Fault(t, "disk-errors", int(refused.Load()), "%d runs, each with the disk failing from another of its %d changes on, or at that one alone (ENOSPC, EIO): what was acknowledged stayed, nothing was set aside, and once it was well everything was taken",
		runs.Load(), total)
}

// TestPauses: a disk that fails for long is tried seldom, and soon enough after.
func TestPauses(t *testing.T) {
	t.Parallel()
	clock := newFakeClock()
	f := newFailing(syscall.EIO, never)
	s := open(t, place(t), Options{fs: errorfs.Wrap(vfs.Default, f), clock: clock.clock(1)})
	commit(t, s, puts(0, 10)...)
	f.at.Store(0)
	var tries []int
	last := f.refused.Load()
	for second := range 120 {
		if err := s.Commit(context.Background(), puts(0, 1)); !errors.Is(err, syscall.EIO) {
			t.Fatalf("Commit says %v", err)
		}
		if n := f.refused.Load(); n != last {
			last, tries = n, append(tries, second)
		}
		clock.pass(time.Second)
	}
	if want := []int{0, 1, 3, 7, 15, 31, 47, 63, 79, 95, 111}; !slices.Equal(tries, want) {
		t.Errorf("tried after %v s, want %v", tries, want)
	}
	f.mended.Store(true)
	clock.pass(maxPause)
	commit(t, s, puts(0, 1)...)
}

// TestNoSpin: a database that fails while nobody commits, in the midst of its tidying up, is
// closed at once. Pebble would try again without a pause.
func TestNoSpin(t *testing.T) {
	t.Parallel()
	f := newFailing(syscall.ENOSPC, never)
	clock := newFakeClock()
	s := open(t, place(t), Options{fs: errorfs.Wrap(vfs.Default, f), clock: clock.clock(1), reserve: -1})
	commit(t, s, puts(0, 10)...)
	s.mu.Lock()
	db := s.db
	f.at.Store(0)
	_, err := db.AsyncFlush()
	s.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		closed := s.db == nil
		s.mu.Unlock()
		if closed {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the database is still open")
		}
	}
	if err := s.Commit(context.Background(), puts(0, 1)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Commit says %v", err)
	}
	f.mended.Store(true)
	clock.pass(maxPause)
	commit(t, s, puts(10, 20)...)
	if n := len(load(t, s)); n != 20 {
		t.Errorf("%d records, want 20", n)
	}
}

// TestLoadWhileFailing: a database whose table could not be written believes that it was, and
// shows nothing of it. Load reads what is on the disk instead.
func TestLoadWhileFailing(t *testing.T) {
	t.Parallel()
	f := newFailing(syscall.ENOSPC, never)
	s := open(t, place(t), Options{fs: errorfs.Wrap(vfs.Default, f), reserve: -1})
	commit(t, s, puts(0, written/2)...)
	settled(t, s)
	commit(t, s, puts(written/2, written)...)
	s.mu.Lock() // nobody closes it yet
	f.at.Store(0)
	if err := s.db.Flush(); err != nil {
		t.Error(err)
	}
	records, err := s.load(context.Background())
	s.mu.Unlock()
	if len(records) != written || err != nil {
		t.Errorf("loaded %d records of %d (%v)", len(records), written, err)
	}
}
