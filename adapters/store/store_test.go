package store

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

// TestRoundTrip: every field of a record comes back, after a close, from a store on disk. A
// field that Record gains and the store does not keep fails it.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	f := newFakeClock()
	dir := place(t)
	s := open(t, dir, Options{clock: f.clock(1)})
	want := busylamp.Record{Publisher: "presence", Presentity: "sip:alice@example.com", Tag: "dx200xyz",
		State: busylamp.DoNotDisturb, Expires: 10 * time.Minute, Refresh: 8 * time.Minute, Unsure: true, Clear: true, Sourced: true}
	v := reflect.ValueOf(want)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Fatalf("the test does not set %s", v.Type().Field(i).Name)
		}
	}
	plain := record(7)
	other := plain // the same presentity at another publisher is another publication
	other.Publisher, other.Tag = "presence2", "another"
	commit(t, s, busylamp.StoreOp{Record: want}, busylamp.StoreOp{Record: plain}, busylamp.StoreOp{Record: other})
	for range 2 {
		got := load(t, s)
		all := map[id]busylamp.Record{{want.Publisher, want.Presentity}: want,
			{plain.Publisher, plain.Presentity}: plain, {other.Publisher, other.Presentity}: other}
		if !maps.Equal(got, all) {
			t.Fatalf("loaded %+v\nwant %+v", got, all)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, Options{clock: f.clock(1)})
	}
}

// TestStates: each state survives by its name.
func TestStates(t *testing.T) {
	t.Parallel()
	s := open(t, place(t), Options{})
	for state := busylamp.Unknown; state <= busylamp.DoNotDisturb; state++ {
		r := record(1)
		r.State = state
		commit(t, s, busylamp.StoreOp{Record: r})
		if got := load(t, s)[id{r.Publisher, r.Presentity}].State; got != state {
			t.Errorf("%v came back as %v", state, got)
		}
	}
}

// TestChanges: the last change of a record counts, within a batch too; deletes delete.
func TestChanges(t *testing.T) {
	t.Parallel()
	dir := place(t)
	s := open(t, dir, Options{})
	one, two := record(1), record(1)
	two.Tag, two.State = "newer", busylamp.Meeting
	gone := busylamp.StoreOp{Record: busylamp.Record{Publisher: one.Publisher, Presentity: one.Presentity}, Delete: true}
	key := id{one.Publisher, one.Presentity}
	for _, c := range []struct {
		name string
		ops  []busylamp.StoreOp
		tag  string // "": there is none
	}{
		{"put", []busylamp.StoreOp{{Record: one}}, one.Tag},
		{"overwrite", []busylamp.StoreOp{{Record: two}}, two.Tag},
		{"put and overwrite at once", []busylamp.StoreOp{{Record: two}, {Record: one}}, one.Tag},
		{"delete", []busylamp.StoreOp{gone}, ""},
		{"delete what is not there", []busylamp.StoreOp{gone}, ""},
		{"delete and put at once", []busylamp.StoreOp{gone, {Record: two}}, two.Tag},
		{"put and delete at once", []busylamp.StoreOp{{Record: one}, gone}, ""},
		{"put what has expired", []busylamp.StoreOp{{Record: busylamp.Record{Publisher: "p", Presentity: "sip:a@b", Tag: "x"}}}, ""},
	} {
		commit(t, s, c.ops...)
		got := load(t, s)
		if got[key].Tag != c.tag || (c.tag == "") != (len(got) == 0) {
			t.Errorf("%s: got %+v, want tag %q", c.name, got, c.tag)
		}
	}
}

// TestLimits: what cannot be stored is refused as a whole, and named.
func TestLimits(t *testing.T) {
	t.Parallel()
	s := open(t, place(t), Options{})
	long := strings.Repeat("x", 2000)
	for want, change := range map[string]func(*busylamp.Record){
		"publisher \"\"":    func(r *busylamp.Record) { r.Publisher = "" },
		"1 to 80 bytes":     func(r *busylamp.Record) { r.Publisher = long[:maxPublisher+1] },
		"none of them zero": func(r *busylamp.Record) { r.Publisher = "a\x00b" },
		"1 to 255 bytes":    func(r *busylamp.Record) { r.Presentity = busylamp.Presentity(long[:256]) },
		"not 0":             func(r *busylamp.Record) { r.Presentity = "" },
		"2000 bytes":        func(r *busylamp.Record) { r.Tag = long },
	} {
		bad := record(2)
		change(&bad)
		err := s.Commit(context.Background(), []busylamp.StoreOp{{Record: record(1)}, {Record: bad}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if err := s.Commit(context.Background(), make([]busylamp.StoreOp, MaxOps+1)); err == nil {
		t.Error("more than MaxOps were taken")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Commit(ctx, puts(0, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end, the context's error is %v", err)
	}
	if _, err := s.Load(ctx); err != nil { // nothing to read
		t.Errorf("Load of an empty store: %v", err)
	}
	if n := entries(t, s); n != 0 {
		t.Errorf("%d records were stored with those that cannot be", n)
	}
	most := record(3)
	most.Publisher, most.Presentity = long[:maxPublisher], busylamp.Presentity(long[:255])
	most.Tag, most.Expires = long[:1024], time.Duration(1<<63-1)
	commit(t, s, busylamp.StoreOp{Record: most})
	if got := load(t, s)[id{most.Publisher, most.Presentity}]; got.Tag != most.Tag {
		t.Errorf("the largest record came back as %+v", got)
	}
	commit(t, s) // nothing is fine
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(context.Background(), nil); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := s.Load(context.Background()); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestLargeBatch: a commit larger than pebble's memory table, which goes another way there.
func TestLargeBatch(t *testing.T) {
	t.Parallel()
	dir := place(t)
	s := open(t, dir, Options{})
	commit(t, s, puts(0, MaxOps)...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := load(t, open(t, dir, Options{})); len(got) != MaxOps {
		t.Fatalf("%d of %d records came back", len(got), MaxOps)
	}
}

// TestSweep: records that nobody deletes do not pile up. Ten lives of 8,000 records each
// expire one after the other; the store never holds much more than twice what is alive.
func TestSweep(t *testing.T) {
	t.Parallel()
	f := newFakeClock()
	s := open(t, place(t), Options{clock: f.clock(1)})
	const alive, lives = 8000, 10
	most := 0
	for life := range lives {
		for part := range 4 {
			from := life*alive + part*alive/4
			ops := puts(from, from+alive/4)
			for i := range ops { // here and there among the others
				ops[i].Record.Presentity = record((from + i) * 7919 % 100_003).Presentity
			}
			commit(t, s, ops...)
			settled(t, s)
			f.pass(150 * time.Second) // four of them are one life
		}
		most = max(most, entries(t, s))
	}
	t.Logf("at most %d records for %d alive, of %d put", most, alive, lives*alive)
	if most > 2*alive+2*sweepDebt {
		t.Errorf("the store held %d records, %d of them alive", most, alive)
	}
	if got := len(load(t, s)); got > alive || got < alive/2 {
		t.Errorf("loaded %d, want the last %d or those that have just not expired", got, alive)
	}
}

// TestLoadSweeps: Load removes what has expired from the disk.
func TestLoadSweeps(t *testing.T) {
	t.Parallel()
	f := newFakeClock()
	s := open(t, place(t), Options{clock: f.clock(1)})
	commit(t, s, puts(0, 3*sweepBatch/2)...)
	f.pass(5 * time.Minute)
	commit(t, s, puts(0, 10)...)
	f.pass(6 * time.Minute)
	if got := load(t, s); len(got) != 10 {
		t.Errorf("loaded %d, want 10", len(got))
	}
	if n := entries(t, s); n != 10 {
		t.Errorf("%d are left in the database, want 10", n)
	}
}

// TestPanic: a database that panicked is not touched again, not even to close it, for it may
// hold its own locks: the store says what happened until the next start, and hangs nowhere.
func TestPanic(t *testing.T) {
	t.Parallel()
	s := open(t, place(t), Options{})
	db := s.db
	s.mu.Lock()
	err := guard(func() error { panic("a lock is held") })
	_ = s.fault(err)
	s.mu.Unlock()
	for range 2 {
		if err := s.Commit(context.Background(), puts(0, 1)); err == nil || !strings.Contains(err.Error(), "a lock is held") {
			t.Errorf("Commit says %v", err)
		}
	}
	if _, err := s.Load(context.Background()); err == nil {
		t.Error("Load says nothing")
	}
	_ = s.Close()
	if err := db.Close(); err != nil { // the test's own, which is sound
		t.Error(err)
	}
}

// TestSyncs: what is settled has the disk sync, and that is counted with its time.
func TestSyncs(t *testing.T) {
	t.Parallel()
	s := open(t, place(t), Options{every: -1})
	n, took := Syncs()
	commit(t, s, puts(0, 10)...)
	settled(t, s)
	if again, later := Syncs(); again <= n || later <= took {
		t.Errorf("%d syncs in %v before, %d in %v after", n, took, again, later)
	}
}
