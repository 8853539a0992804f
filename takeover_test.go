package busylamp

import (
	"fmt"
	"testing"
	"time"
)

// TestTakeOver: the next life refreshes what it finds, keeps it while in doubt, removes it
// where the call has ended meanwhile, and never publishes a second time.
func TestTakeOver(t *testing.T) {
	s := newScript(t)
	s.e.Connected(0, "1")
	s.e.Connected(1, "1")
	s.collect()
	s.lists = nil
	s.e.TakeOver([]Record{
		{Publisher: "s", Presentity: userA, Tag: "a1", State: OnThePhone, Expires: 500 * time.Second, Refresh: 300 * time.Second},
		{Publisher: "s", Presentity: Presentity(user(3)), Tag: "b1", State: OnThePhone, Expires: 500 * time.Second, Refresh: 300 * time.Second},
		{Publisher: "s", Presentity: userB, Tag: "c1", State: OnThePhone, Expires: -time.Second},
		{Publisher: "gone", Presentity: userB, Tag: "c1", State: OnThePhone, Expires: 500 * time.Second},
	})
	s.collect()
	if len(s.out) > 0 || s.e.Stats().People != 2 {
		t.Fatalf("%d people, sent %+v", s.e.Stats().People, s.out)
	}
	s.e.Connected(0, "1")
	s.list2(0, "1", 3)
	if len(s.out) > 0 {
		t.Fatalf("one proxy of two has been compared, and %+v was sent", s.out)
	}
	s.list2(1, "1")
	r := s.expect(Remove, "a1")
	if r.Presentity != userA {
		t.Errorf("removed %s", r.Presentity)
	}
	s.wantLit("3", "after")
}

// list2 resyncs one proxy, whichever number its resync has.
func (s *script) list2(proxy int, epoch string, live ...uint32) {
	id := s.e.proxies[proxy].resync.id
	l := Listing{Epoch: epoch}
	var events []CallEvent
	for _, n := range live {
		l.Live = append(l.Live, Listed{Dialog: DialogID{1, n}, Stage: Confirmed})
		events = append(events, CallEvent{Dialog: DialogID{1, n}, Stage: Confirmed, Caller: user(int(n))})
	}
	s.e.Listed(proxy, id, l)
	s.e.Detailed(proxy, id, events)
	s.e.Resynced(proxy, id)
	s.collect()
}

// A proxy that never answers holds a lamp for Config.Hold, and not for longer.
func TestTakeOverEnds(t *testing.T) {
	s := newScript(t)
	s.e.TakeOver([]Record{{Publisher: "s", Presentity: userA, Tag: "a1", State: OnThePhone, Expires: 100 * time.Second, Refresh: 90 * time.Second}})
	for s.now < 70*time.Minute {
		if s.now == 59*time.Minute && s.e.Live() != 1 {
			t.Error("let go too soon")
		}
		for _, r := range s.out {
			s.out = nil
			s.settled(r, ok("a2", 600*time.Second))
		}
		s.pass(wheelTick)
	}
	if n := s.e.Live(); n != 0 {
		t.Errorf("%d publications live", n)
	}
}

// What one life leaves is what the next one takes.
func TestRecordsRoundTrip(t *testing.T) {
	s := newScript(t)
	s.busy(true)
	s.settled(s.expect(Initial, ""), ok("t1", 600*time.Second))
	records := s.e.Records()
	next := newScript(t)
	next.e.TakeOver(records)
	next.busy(true)
	next.quiet(4 * time.Second)
	next.busy(false)
	next.list2(0, "")
	next.e.Connected(0, "1")
	next.e.Connected(1, "1")
	next.list2(0, "1")
	next.list2(1, "1")
	if r := next.out[len(next.out)-1]; r.Kind != Remove || r.Tag != "t1" {
		t.Errorf("sent %+v", r)
	}
}

// What was to be removed is removed by the next life, and nobody is lit again for it.
func TestTakeOverOfARemoval(t *testing.T) {
	s := newScript(t)
	s.busy(true)
	s.settled(s.expect(Initial, ""), ok("t1", 600*time.Second))
	s.busy(false)
	s.settled(s.expect(Remove, "t1"), failure)
	next := newScript(t)
	next.e.TakeOver(s.e.Records())
	next.collect()
	next.settled(next.expect(Remove, "t1"), gone)
	next.quiet(time.Minute)
}

// TestStore: what the store is told, request by request.
func TestStore(t *testing.T) {
	e, err := New(Config{Proxies: []string{"p"}, Directory: testDirectory{}, Sides: SideCaller, Durable: true, Early: true,
		Publishers: []PublisherConfig{{Name: "s", Expires: 600 * time.Second, NoSentinel: true}}})
	if err != nil {
		t.Fatal(err)
	}
	id := DialogID{1, 1}
	next := func(want string) Request {
		t.Helper()
		w := e.Take()
		got := ""
		for _, op := range w.Store {
			r := op.Record
			if op.Delete {
				got += fmt.Sprintf("delete %s of %s;", r.Presentity, r.Publisher)
				continue
			}
			got += fmt.Sprintf("%s %s %s %v unsure=%v;", r.Publisher, r.Tag, r.State, r.Expires, r.Unsure)
		}
		if got != want {
			t.Errorf("at %v: store is told %q, want %q", e.now, got, want)
		}
		if len(w.Publish) == 0 {
			return Request{}
		}
		return w.Publish[0].Request
	}
	e.Calls(0, []CallEvent{{Dialog: id, Stage: Early, Caller: user(1)}})
	r := next("")
	e.Settled(r, ok("t1", 600*time.Second))
	next("s t1 ringing 10m0s unsure=false;")
	e.Calls(0, []CallEvent{{Dialog: id, Stage: Confirmed, Caller: user(1)}})
	r = next("s t1 ringing 10m0s unsure=true;") // before the modification goes out
	e.Settled(r, ok("t2", 600*time.Second))
	next("s t2 on-the-phone 10m0s unsure=false;")
	for r = (Request{}); r.Kind == 0; r = next("") {
		e.Advance(e.now + time.Second)
	}
	e.Settled(r, gone)
	r = next("delete sip:u1@example.com of s;") // its successor is under way
	e.Settled(r, ok("t3", 600*time.Second))
	next(fmt.Sprintf("s t3 on-the-phone %v unsure=false;", e.now+600*time.Second))
	e.Calls(0, []CallEvent{{Dialog: id, Stage: Ended}})
	r = next(fmt.Sprintf("s t3 on-the-phone %v unsure=true;", e.now+600*time.Second)) // before the removal goes out
	e.Settled(r, ok("", 0))
	next("delete sip:u1@example.com of s;")

	e.TakeOver([]Record{{Publisher: "gone", Presentity: userA, Tag: "x", State: OnThePhone, Expires: e.now + time.Minute}})
	next("delete sip:a@example.com of gone;")
}
