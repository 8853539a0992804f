package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	faults "github.com/busylamp/busylamp/integration/record"
)

// copied is the directory as a kill at this moment would leave it. The database may tidy up
// meanwhile: what it removes it does not need.
func copied(t *testing.T, dir string) string {
	t.Helper()
	to := place(t)
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range files(t, dir, "*") {
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := errors.Join(err, os.WriteFile(filepath.Join(to, filepath.Base(name)), data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// tags opens a store, and after it has been closed once more, and returns what is in it.
func tags(t *testing.T, dir string, o Options) string {
	t.Helper()
	var twice [2]string
	for n := range twice {
		s := open(t, dir, o)
		got := load(t, s)
		var all []string
		for i := range 40 {
			r := record(i)
			if g, ok := got[id{r.Publisher, r.Presentity}]; ok {
				all = append(all, fmt.Sprintf("%d=%s", i, g.Tag))
			}
		}
		if len(all) != len(got) {
			t.Fatalf("%d records, of which only %v are known", len(got), all)
		}
		twice[n] = strings.Join(all, " ")
		_ = s.Close()
	}
	if twice[0] != twice[1] {
		t.Errorf("first %s, and then %s", twice[0], twice[1])
	}
	if n := len(aside(t, dir)); n != 0 {
		t.Error("set aside")
	}
	return twice[0]
}

// TestKilledBetween: a kill between any two of the steps by which changes go to the journal
// and the database leaves what was committed. What was deleted does not come back.
func TestKilledBetween(t *testing.T) {
	t.Parallel()
	dir := place(t)
	s := open(t, dir, Options{every: -1})
	look := func(when, want string) {
		t.Helper()
		if got := tags(t, copied(t, dir), Options{}); got != want {
			t.Errorf("killed %s: %s, want %s", when, got, want)
		}
	}
	look("before the first change", "")
	commit(t, s, tagged(1, "a"), tagged(2, "a"), tagged(3, "a"))
	look("with the journal alone", "1=a 2=a 3=a")
	settled(t, s)
	look("after the database's batch", "1=a 2=a 3=a")
	commit(t, s, tagged(1, "b"))
	look("with a batch over the first", "1=b 2=a 3=a")
	gone := tagged(2, "")
	gone.Delete = true
	commit(t, s, gone, tagged(4, "b"))
	look("with two", "1=b 3=a 4=b")
	commit(t, s, tagged(4, "c"))
	dir = copied(t, dir)

	// The next life: the database has all, and the new journal is not there yet, or is there
	// without what tells whose it is.
	var stages []string
	disk := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if filepath.Base(op.Path) == journalFile && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			stages = append(stages, copied(t, dir))
		}
		return nil
	}))
	next := open(t, dir, Options{fs: disk, every: -1})
	commit(t, next, tagged(3, "d"))
	_ = next.Close()
	if len(stages) < 3 {
		t.Fatalf("%d stages, want the new journal's making, its head, and a batch at least", len(stages))
	}
	for n, stage := range stages {
		if got := tags(t, stage, Options{}); got != "1=b 3=a 4=c" {
			t.Errorf("stage %d: %s", n, got)
		}
	}
	if got := tags(t, dir, Options{}); got != "1=b 3=d 4=c" {
		t.Errorf("in the end: %s", got)
	}
}

// journalOf makes a store with a settled change and five commits in the journal, two changes
// each. It returns a copy of the directory and what is in the database of its journal.
func journalOf(t *testing.T) (dir string, m mark) {
	t.Helper()
	s := open(t, place(t), Options{every: -1})
	for n := range 4 { // what is behind the end
		commit(t, s, puts(0, 10+n)...)
	}
	settled(t, s)
	m = s.journal.mark
	for n := range 5 {
		commit(t, s, tagged(10+2*n, "j"), tagged(11+2*n, "j"))
	}
	dir = copied(t, s.dir)
	return dir, m
}

// batchesIn counts the changes, and says whether they are the first of those that journalOf
// makes.
func batchesIn(t *testing.T, kept []byte) (n int) {
	t.Helper()
	err := changes(kept, func(key, value []byte) error {
		r, err := parse(key, value)
		if want := string(record(10 + n).Presentity); err == nil && (string(r.presentity) != want || string(r.tag) != "j") {
			err = fmt.Errorf("%s with the tag %s, want %s", r.presentity, r.tag, want)
		}
		n++
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestJournalIsBounded: commits beyond what the journal may hold bring all of it into the
// database, one of them that is larger than the journal itself included; nothing is missing
// wherever a kill comes.
func TestJournalIsBounded(t *testing.T) {
	t.Parallel()
	dir := place(t)
	s := open(t, dir, Options{every: -1})
	n, settled := 0, 0
	for i, size := range []int{2000, 2000, 2000, 2000, 8000, 1, 2000, 2000, 2000, 2000} {
		before := len(s.journal.kept)
		commit(t, s, puts(n, n+size)...)
		n += size
		if kept := len(s.journal.kept); kept > maxJournal {
			t.Errorf("commit %d: %d bytes are kept", i, kept)
		} else if kept < before || kept == 0 {
			settled++
		}
		if info, err := os.Stat(filepath.Join(dir, journalFile)); err != nil || info.Size() > int64(journalHead+maxJournal+4) {
			t.Errorf("commit %d: the file has %v bytes, %v", i, info.Size(), err)
		}
		if got := load(t, open(t, copied(t, dir), Options{})); len(got) != n {
			t.Errorf("commit %d: killed, it leaves %d records of %d", i, len(got), n)
		}
	}
	if settled < 3 {
		t.Errorf("settled %d times: the sizes are too small for this test", settled)
	}
}

// TestJournalTornAndFlipped: a journal that ends anywhere, or of which any bit of any byte is
// not what was written, gives the commits before the damage, each whole, and says so.
func TestJournalTornAndFlipped(t *testing.T) {
	t.Parallel()
	dir, m := journalOf(t)
	data, err := os.ReadFile(filepath.Join(dir, journalFile))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := m.after(data)
	if n := batchesIn(t, kept); n != 10 || err != nil {
		t.Fatalf("%d changes, %v", n, err)
	}
	used := journalHead + len(kept) + 4
	if len(data) <= used {
		t.Fatal("there is nothing behind the end")
	}
	last, complaints := 0, 0
	for size := range data {
		kept, err := m.after(data[:size:size])
		n := batchesIn(t, kept)
		if n%2 != 0 || n < last || (err == nil) != (size >= used) {
			t.Fatalf("cut to %d of %d bytes: %d changes, %v", size, used, n, err)
		}
		last = n
	}
	for at := range data {
		for bit := range 8 {
			data[at] ^= 1 << bit
			kept, err := m.after(data)
			n := batchesIn(t, kept)
			if n%2 != 0 || at >= used && n != 10 {
				t.Fatalf("byte %d: %d changes, %v", at, n, err)
			}
			// Another salt is another life's: that is no damage.
			if n != 10 && err == nil && (at < len(journalMagic) || at >= journalHead) {
				t.Fatalf("byte %d: %d changes, and no word", at, n)
			}
			if err != nil {
				complaints++
			}
			data[at] ^= 1 << bit
		}
	}
	if complaints < 8*(used-12) {
		t.Errorf("%d complaints about %d bytes", complaints, used)
	}
	// And through the whole store.
	for at := 0; at < used; at += 97 {
		dir := copied(t, dir)
		data[at] ^= 0x41
		if err := os.WriteFile(filepath.Join(dir, journalFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
		data[at] ^= 0x41
		var log captured
		got := tags(t, dir, Options{Log: log.logger()})
		if !strings.HasPrefix(got, "0=tag-0 1=tag-1") || strings.Count(got, "=j")%2 != 0 {
			t.Errorf("byte %d: %s", at, got)
		}
		if (at < len(journalMagic) || at >= journalHead) && !strings.Contains(log.String(), "journal is damaged") {
			t.Errorf("byte %d: the log says %s", at, log.String())
		}
	}
	faults.Fault(t, "disk-corrupt", complaints, "bits flipped in a journal, one by one: the commits before the damage came back, each whole, never a wrong one")
}

// TestFencedJournal: whoever takes the store over has what the one before committed; what
// that one writes afterwards nobody reads, even if it had looked at OWNER in time.
func TestFencedJournal(t *testing.T) {
	t.Parallel()
	dir := place(t)
	var syncs atomic.Int64
	disk := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSyncData {
			syncs.Add(1)
		}
		return nil
	}))
	first := open(t, dir, Options{fs: unlockable{disk}, every: -1})
	commit(t, first, tagged(1, "first"), tagged(2, "first"))
	before := syncs.Load()
	second := open(t, dir, Options{fs: unlockable{vfs.Default}, every: -1})
	commit(t, second, tagged(2, "second"))
	late := func() { // what it had begun when it was stopped, and goes on with now
		t.Helper()
		first.mu.Lock()
		defer first.mu.Unlock()
		_ = first.journal.write(first.journal.add(puts(0, 30), first.clock.now()))
		if err := first.settle(); err == nil || syncs.Load() != before {
			t.Errorf("it writes to the database (%v)", err)
		}
	}
	late()
	const want = "1=first 2=second"
	if got := tags(t, copied(t, dir), Options{}); got != want {
		t.Errorf("killed, it leaves %s, want %s", got, want)
	}
	if err := first.Commit(context.Background(), puts(0, 1)); err == nil {
		t.Error("it is not fenced")
	}
	_ = second.Close()
	if got := tags(t, dir, Options{}); got != want {
		t.Errorf("in the end there is %s, want %s", got, want)
	}
	faults.Fault(t, "second-sidecar", 1, "what the first one writes to its journal after the second one took the store is read by nobody")
}

// TestCommitIsOneWrite: a commit is one write and no sync; what many commits have changed
// goes to the database as one batch with one sync, each record once.
func TestCommitIsOneWrite(t *testing.T) {
	t.Parallel()
	var writes, syncs, others atomic.Int64
	disk := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch {
		case op.Kind == errorfs.OpFileWriteAt && filepath.Base(op.Path) == journalFile:
			writes.Add(1)
		case op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSync:
			syncs.Add(1)
		default:
			others.Add(1)
		}
		return nil
	}))
	s := open(t, place(t), Options{fs: disk, every: -1, reserve: -1})
	commit(t, s, puts(0, 1)...)
	settled(t, s)
	writes.Store(0)
	syncs.Store(0)
	others.Store(0)
	for n := range 100 {
		gone := tagged(n, "")
		gone.Delete = true
		commit(t, s, tagged(1, "a"), tagged(2, fmt.Sprint(n)), tagged(n, "b"), gone)
	}
	if writes.Load() != 100 || syncs.Load() != 0 || others.Load() != 0 {
		t.Errorf("100 commits were %d writes, %d syncs, %d other operations", writes.Load(), syncs.Load(), others.Load())
	}
	n := 0
	_ = s.latest.of(s.journal.kept, func(_, _ []byte) error { n++; return nil })
	if n != 100 {
		t.Errorf("%d changes go to the database, want one for each of 100 keys", n)
	}
	settled(t, s)
	if syncs.Load() != 1 || len(s.journal.kept) != 0 {
		t.Errorf("%d syncs, %d bytes are kept", syncs.Load(), len(s.journal.kept))
	}
	if got := load(t, s); len(got) != 2 {
		t.Errorf("%d records, want 2", len(got))
	}
}

// TestSettlesByItself: what was committed goes to the database without being asked for, and
// once it is there nothing waits.
func TestSettlesByItself(t *testing.T) {
	t.Parallel()
	synced := make(chan struct{}, 100)
	disk := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSyncData {
			synced <- struct{}{}
		}
		return nil
	}))
	s := open(t, place(t), Options{fs: disk})
	for len(synced) > 0 {
		<-synced
	}
	for n := range 3 {
		commit(t, s, puts(n, n+1)...)
		select {
		case <-synced:
		case <-time.After(20 * time.Second):
			t.Fatal("it is never synced")
		}
		s.mu.Lock() // it holds the lock until it is done
		if n := len(s.journal.kept); n != 0 {
			t.Errorf("%d bytes are kept after the sync", n)
		}
		if s.due.Stop() {
			t.Error("a timer runs for nothing")
		}
		s.mu.Unlock()
	}
}

// TestCommitAllocations: a commit of ten changes allocates next to nothing, the batches of
// the database that it leads to now and then included.
func TestCommitAllocations(t *testing.T) {
	s := open(t, place(t), Options{every: -1})
	ops := puts(0, 10)
	commitAll := func() {
		if err := s.Commit(context.Background(), ops); err != nil {
			t.Fatal(err)
		}
	}
	for range 2000 { // until all buffers have their size
		commitAll()
	}
	if n := testing.AllocsPerRun(1000, commitAll); n > 2 {
		t.Errorf("%v allocations a commit, want 2 at most", n)
	}
}

// TestJournalReading: a journal that cannot be read for want of something is not taken for a
// damaged one: the next attempt has what is in it.
func TestJournalReading(t *testing.T) {
	t.Parallel()
	dir, _ := journalOf(t)
	disk := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpOpen && filepath.Base(op.Path) == journalFile {
			return &os.PathError{Op: "open", Path: op.Path, Err: syscall.EMFILE}
		}
		return nil
	}))
	if s, err := Open(dir, Options{fs: disk}); err == nil || !strings.Contains(err.Error(), "too many open files") {
		t.Errorf("Open says %v", err)
		if err == nil {
			_ = s.Close()
		}
	}
	if got := tags(t, dir, Options{}); strings.Count(got, "=j") != 10 {
		t.Errorf("then there is %s", got)
	}
}
