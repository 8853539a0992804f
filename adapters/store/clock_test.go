package store

import (
	"testing"
	"time"
)

// TestClocks: what a record has left when another life loads it, whatever somebody did to
// the wall clock in between.
func TestClocks(t *testing.T) {
	t.Parallel()
	const later = 4 * time.Minute // of ten
	for _, c := range []struct {
		name string
		boot uint64        // of the second life; the first one's is 1
		jump time.Duration // of the wall clock between them
		left time.Duration // 0: it has expired
	}{
		{"same boot", 1, 0, 6 * time.Minute},
		{"same boot, an hour forward", 1, time.Hour, 6 * time.Minute},
		{"same boot, an hour back", 1, -time.Hour, 6 * time.Minute},
		{"same boot, to 1970", 1, -56 * 365 * 24 * time.Hour, 6 * time.Minute},
		{"another boot", 2, 0, 6 * time.Minute},
		{"another boot, an hour forward", 2, time.Hour, 0},
		{"another boot, an hour back", 2, -time.Hour, 10 * time.Minute},
		{"another boot, to 1970", 2, -56 * 365 * 24 * time.Hour, 10 * time.Minute},
		{"a boot that is not known", 0, 0, 6 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeClock()
			dir := place(t)
			s := open(t, dir, Options{clock: f.clock(1)})
			commit(t, s, puts(1, 2)...)
			_ = s.Close()
			f.pass(later)
			f.wall = f.wall.Add(c.jump)
			if c.boot != 1 {
				f.up = time.Second
			}
			got := load(t, open(t, dir, Options{clock: f.clock(c.boot)}))
			r := record(1)
			r, ok := got[id{r.Publisher, r.Presentity}]
			if !ok != (c.left == 0) || r.Expires != c.left {
				t.Fatalf("got %v, %v; want %v", r.Expires, ok, c.left)
			}
			if want := max(0, c.left-2*time.Minute); r.Refresh != want {
				t.Errorf("refresh in %v, want %v", r.Refresh, want)
			}
			if want := c.left > 10*time.Minute-later; r.Unsure != want { // it cannot be so much
				t.Errorf("to be asked at once: %v, want %v", r.Unsure, want)
			}
		})
	}
}

// TestNoBootAtAll: where no boot is ever known, two unknown ones are not the same.
func TestNoBootAtAll(t *testing.T) {
	t.Parallel()
	f := newFakeClock()
	dir := place(t)
	s := open(t, dir, Options{clock: f.clock(0)})
	commit(t, s, puts(1, 2)...)
	_ = s.Close()
	f.pass(4 * time.Minute)
	f.up = 0
	for _, r := range load(t, open(t, dir, Options{clock: f.clock(0)})) {
		if r.Expires != 6*time.Minute {
			t.Errorf("%v left, want 6 minutes", r.Expires)
		}
	}
}

// TestSweepAfterClockIsSet: a machine boots with its clock at 1970, the sidecar takes over
// the records of the boot before, and then the clock is set. They are not swept: they are
// out there, and the next life must know of them.
func TestSweepAfterClockIsSet(t *testing.T) {
	t.Parallel()
	f := newFakeClock()
	dir := place(t)
	s := open(t, dir, Options{clock: f.clock(1)})
	commit(t, s, puts(0, 10)...)
	_ = s.Close()

	now := f.wall
	f.up, f.wall = time.Second, time.Unix(0, 0)
	s = open(t, dir, Options{clock: f.clock(2)})
	if got := load(t, s); len(got) != 10 {
		t.Fatalf("loaded %d, want 10", len(got))
	}
	f.wall = now.Add(24 * time.Hour)
	commit(t, s, puts(100, 100+2*sweepDebt)...)
	commit(t, s) // the sweep comes with the next commit
	if n := entries(t, s); n != 10+2*sweepDebt {
		t.Errorf("%d records, want %d: what was taken over was swept", n, 10+2*sweepDebt)
	}
	f.pass(11 * time.Minute) // now they are dead by any clock
	for from := 5000; from < 5000+8*sweepDebt; from += sweepDebt {
		commit(t, s, puts(from, from+sweepDebt)...)
	}
	if n := entries(t, s); n > 8*sweepDebt {
		t.Errorf("%d records: what has expired stays", n)
	}
}

// TestSystemClock: the machine's own clocks run, and its boot is known.
func TestSystemClock(t *testing.T) {
	t.Parallel()
	c := systemClock()
	a := c.now()
	time.Sleep(5 * time.Millisecond)
	b := c.now()
	if a.boot == 0 || b.up <= a.up || b.wall < a.wall || a.up <= 0 {
		t.Errorf("%+v, then %+v", a, b)
	}
	if again := systemClock(); again.boot != c.boot {
		t.Errorf("two names for one boot: %x and %x", c.boot, again.boot)
	}
}
