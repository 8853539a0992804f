package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
	faults "github.com/busylamp/busylamp/integration/record"
)

const (
	jumpUsers = 50
	jumpLife  = 10 * time.Minute
	jumpLives = 24 // of the sidecar, each a quarter of an hour
	jumpEach  = 15 * time.Minute
)

// jumper is a presence server, a proxy with calls, and sidecars one after another on one
// store, in a time that passes by itself. Only the wall clock is set.
type jumper struct {
	t     *testing.T
	clock *fakeClock
	dir   string
	s     *Store
	e     *busylamp.Engine
	began time.Duration // the present life, in time since boot
	calls bool          // are up

	tags                       int
	live                       map[busylamp.Presentity]publicationOut
	initial, refreshed, others int
	early, latest              time.Duration // of refreshes, since the one before
	slot                       time.Duration // of one step
}

type publicationOut struct {
	tag         string
	sent, until time.Duration
}

func (*jumper) Presentity(uri string) (busylamp.Presentity, error) {
	return busylamp.Presentity(uri), nil
}
func (*jumper) DisplayName(busylamp.Presentity) string { return "" }

// TestClockJumps: the wall clock is set an hour forward or back, again and again, while the
// sidecar runs, and while it is dead. Every publication of the calls that are up is
// refreshed in its time and by nobody twice, none lapses, none is removed or made anew; and
// when the calls have ended, all are removed.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	j := &jumper{t: t, clock: newFakeClock(), dir: filepath.Join(t.TempDir(), "publications"), calls: true,
		live: map[busylamp.Presentity]publicationOut{}, early: jumpLife, slot: 100 * time.Millisecond}
	jumps := 0
	jump := func(d time.Duration) {
		j.clock.mu.Lock()
		defer j.clock.mu.Unlock()
		j.clock.wall = j.clock.wall.Add(d)
		jumps++
	}
	forth := []time.Duration{time.Hour, -time.Hour, -time.Hour, time.Hour}
	for n := range jumpLives {
		j.begin()
		j.runs(jumpEach / 3)
		jump(forth[n%4]) // in the midst of a life
		j.runs(jumpEach - jumpEach/3)
		j.kill()
		jump(forth[(n+n/4)%4]) // between two
		j.clock.pass(time.Duration(n%5) * time.Second)
	}
	if want := jumpLives * int(jumpEach/jumpLife) * jumpUsers; j.refreshed < want {
		t.Errorf("%d refreshes in %d lives, want %d at least", j.refreshed, jumpLives, want)
	}
	if j.initial != jumpUsers || j.others > 0 {
		t.Errorf("%d publications were begun for %d users, and %d requests were neither that nor refreshes", j.initial, jumpUsers, j.others)
	}
	// Refreshes are due from 60 to 80 % of a lifetime, earlier where a second is crowded, and
	// those that came due while nobody ran are spread over half of what was left.
	if j.early < jumpLife/5 || j.latest > jumpLife*9/10 {
		t.Errorf("refreshed %v to %v after the request before; the lifetime is %v", j.early, j.latest, jumpLife)
	}
	j.calls = false
	j.begin()
	j.runs(10 * time.Second)
	if len(j.live) > 0 {
		t.Errorf("%d publications are left of calls that have ended", len(j.live))
	}
	j.kill()
	faults.Fault(t, "clock", jumps, "in %d lives of the sidecar: %d refreshes of %d publications, each %.0f to %.0f %% of a lifetime after the one before, none missed, none cleared, none published twice",
		jumpLives, j.refreshed, jumpUsers, 100*j.early.Seconds()/jumpLife.Seconds(), 100*j.latest.Seconds()/jumpLife.Seconds())
}

// begin starts a sidecar on the store.
func (j *jumper) begin() {
	j.t.Helper()
	j.s = open(j.t, j.dir, Options{clock: j.clock.clock(1)})
	records, err := j.s.Load(context.Background())
	if err != nil {
		j.t.Fatal(err)
	}
	if len(records) != len(j.live) {
		j.t.Fatalf("%d records of %d publications", len(records), len(j.live))
	}
	j.e, err = busylamp.New(busylamp.Config{Directory: j, Proxies: []string{"p"}, Durable: true, Seed: uint64(j.clock.up),
		Sides: busylamp.SideCaller, Publishers: []busylamp.PublisherConfig{{Name: "s", Expires: jumpLife, NoSentinel: true}}})
	if err != nil {
		j.t.Fatal(err)
	}
	j.began = j.clock.up
	j.e.TakeOver(records)
	j.does()
	j.e.Connected(0, "1")
	j.does()
}

// kill ends it. What it had committed is all that is left of it.
func (j *jumper) kill() {
	if err := j.s.Close(); err != nil {
		j.t.Fatal(err)
	}
}

// runs lets time pass.
func (j *jumper) runs(d time.Duration) {
	j.t.Helper()
	for end := j.clock.up + d; j.clock.up < end; {
		j.clock.pass(j.slot)
		j.e.Advance(j.clock.up - j.began)
		j.does()
		for who, p := range j.live {
			if p.until < j.clock.up {
				j.t.Fatalf("%s: the publication of a call that is up lapsed %v after the last request", who, p.until-p.sent)
			}
		}
	}
}

// does what the engine wants done, at once.
func (j *jumper) does() {
	j.t.Helper()
	for {
		w := j.e.Take()
		if len(w.Publish)+len(w.Lists)+len(w.Details)+len(w.Store) == 0 {
			return
		}
		for i := range w.Store {
			w.Store[i].Record.Expires -= j.clock.up - j.began
			w.Store[i].Record.Refresh -= j.clock.up - j.began
		}
		if len(w.Store) > 0 {
			commit(j.t, j.s, w.Store...)
		}
		for _, p := range w.Publish {
			j.e.Settled(p.Request, j.answers(p.Request))
		}
		for _, l := range w.Lists {
			j.e.Listed(l.Proxy, l.ID, j.listing())
		}
		for _, d := range w.Details {
			var events []busylamp.CallEvent
			for _, l := range d.Wanted {
				events = append(events, busylamp.CallEvent{Dialog: l.Dialog, Stage: l.Stage, Caller: fmt.Sprintf("sip:u%d@example.com", l.Dialog.ID)})
			}
			j.e.Detailed(d.Proxy, d.ID, events)
			j.e.Resynced(d.Proxy, d.ID)
		}
	}
}

func (j *jumper) listing() busylamp.Listing {
	l := busylamp.Listing{Epoch: "1"}
	for i := uint32(1); j.calls && i <= jumpUsers; i++ {
		l.Live = append(l.Live, busylamp.Listed{Dialog: busylamp.DialogID{Entry: 1, ID: i}, Stage: busylamp.Confirmed})
	}
	return l
}

// answers is the presence server.
func (j *jumper) answers(r busylamp.Request) busylamp.Outcome {
	old, known := j.live[r.Presentity]
	if r.Tag != "" && (!known || old.tag != r.Tag || old.until < j.clock.up) {
		j.t.Error(errors.New("412: a request with a tag that is gone"))
		return busylamp.Outcome{Result: busylamp.Gone, Code: 412}
	}
	switch {
	case r.Kind == busylamp.Initial:
		j.initial++
	case r.Kind == busylamp.Remove && !j.calls:
		delete(j.live, r.Presentity)
		return busylamp.Outcome{Result: busylamp.Accepted, Code: 200}
	case r.Kind == busylamp.Refresh:
		j.refreshed++
		j.early, j.latest = min(j.early, j.clock.up-old.sent), max(j.latest, j.clock.up-old.sent)
	default:
		j.others++
	}
	j.tags++
	j.live[r.Presentity] = publicationOut{tag: fmt.Sprint(j.tags), sent: j.clock.up, until: j.clock.up + jumpLife}
	return busylamp.Outcome{Result: busylamp.Accepted, Code: 200, Tag: fmt.Sprint(j.tags), Expires: jumpLife}
}
