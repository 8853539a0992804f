package busylamp

import (
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
