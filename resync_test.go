package busylamp

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
)

// list answers the engine's question for a proxy's list.
func (s *script) list(epoch string, live ...uint32) (wanted []Listed) {
	s.t.Helper()
	s.collect()
	if len(s.lists) != 1 {
		s.t.Fatalf("%d lists asked for, want 1", len(s.lists))
	}
	ask := s.lists[0]
	s.lists = nil
	l := Listing{Epoch: epoch}
	for _, id := range live {
		l.Live = append(l.Live, Listed{Dialog: DialogID{1, id}, Stage: Confirmed})
	}
	s.e.Listed(ask.Proxy, ask.ID, l)
	work := s.e.Take()
	s.notes = append(s.notes, work.Notes...)
	for _, d := range work.Details {
		wanted = append(wanted, d.Wanted...)
		var events []CallEvent
		for _, x := range d.Wanted {
			events = append(events, CallEvent{Dialog: x.Dialog, Stage: x.Stage, Caller: user(int(x.Dialog.ID))})
		}
		s.e.Detailed(d.Proxy, d.ID, events)
		s.e.Resynced(d.Proxy, d.ID)
	}
	return wanted
}

func (s *script) start(id uint32) {
	s.e.Calls(0, []CallEvent{{Dialog: DialogID{1, id}, Stage: Confirmed, Caller: user(int(id))}})
}

func (s *script) lit() string {
	var out string
	for n := range 10 {
		if v, _ := s.e.View(Presentity(user(n))); v.State == OnThePhone {
			out += fmt.Sprint(n)
		}
	}
	return out
}

func (s *script) wantLit(want, when string) {
	s.t.Helper()
	if got := s.lit(); got != want {
		s.t.Fatalf("%s: %q are on the phone, want %q", when, got, want)
	}
}

func TestResyncHeals(t *testing.T) {
	s := newScript(t)
	s.e.Connected(0, "1")
	s.list("1", 1)
	s.start(2)
	s.wantLit("12", "before")
	s.e.Doubt(0, "events lost")
	s.pass(2 * time.Second)
	s.e.Listed(0, 2, Listing{}) // a list of another life: no effect
	s.collect()
	s.lists = nil
	s.pass(2 * time.Second) // the failed one is asked for again
	if wanted := s.list("1", 2, 3); len(wanted) != 1 {
		t.Errorf("details of %v", wanted)
	}
	s.wantLit("23", "after")
	if d := s.e.Stats().Drift; d[DriftAbsent] != 1 || d[DriftUnseen] != 1 {
		t.Errorf("drift %v", d)
	}
	s.collect()
	var told []string
	for _, n := range s.notes {
		if strings.Contains(n.What, "drift") {
			told = append(told, fmt.Sprint(n.Warning, " ", n.What, ": ", n.Explanation))
		}
	}
	if got := strings.Join(told, "\n"); got != "false drift healed: the start of a call was lost: after: events lost (proxy p1, dialog 1:3, Call-ID \"\")\n"+
		"false drift healed: the end of a call was lost: after: events lost (proxy p1, dialog 1:1, Call-ID \"\")" {
		t.Errorf("told:\n%s", got)
	}
	if p := s.e.ProxyStatuses()[0]; !p.InStep {
		t.Errorf("%+v", p)
	}
}

// A call that began after the list was asked for is not ended by its absence, and one
// that ended meanwhile is not revived by its presence.
func TestListIsOlderThanEvents(t *testing.T) {
	s := newScript(t)
	s.e.Connected(0, "1")
	s.start(1)
	s.e.Calls(0, []CallEvent{{Dialog: DialogID{1, 2}, Stage: Ended}})
	s.list("1", 2)
	s.wantLit("1", "after")
}

func TestProxyRestart(t *testing.T) {
	s := newScript(t)
	s.e.Connected(0, "1")
	s.list("1")
	s.start(1)
	s.start(2)
	s.e.Disconnected(0)
	s.pass(time.Minute)
	s.wantLit("12", "unreachable: in doubt, stay busy (I2)")
	s.e.Connected(0, "2")
	s.wantLit("12", "restarted, not compared yet")
	s.list("2", 2) // call 2 lives on, restored from the proxy's database
	s.wantLit("2", "compared")
}

// A proxy that stays away has its calls released after the configured time.
func TestHold(t *testing.T) {
	s := newScript(t)
	s.e.Connected(0, "1")
	s.list("1")
	s.start(1)
	s.e.Disconnected(0)
	s.pass(59 * time.Minute)
	s.wantLit("1", "held")
	s.pass(2 * time.Minute)
	s.wantLit("", "released")
	record.Fault(t, "proxy-unreachable", 1, "its call kept for 59 minutes, and released after an hour (simulated)")
}

// The proxy itself gives a call up when it times out. While it cannot be asked, that is
// how long the call is kept.
func TestHoldUntilTheCallLapses(t *testing.T) {
	s := newScript(t)
	s.e.Connected(0, "1")
	s.collect()
	ask := s.lists[0]
	s.lists = nil
	s.e.Listed(0, ask.ID, Listing{Epoch: "1", Live: []Listed{{Dialog: DialogID{1, 1}, Stage: Confirmed}, {Dialog: DialogID{1, 2}, Stage: Confirmed}}})
	s.e.Detailed(0, ask.ID, []CallEvent{{Dialog: DialogID{1, 1}, Stage: Confirmed, Caller: user(1), Lapses: 20 * time.Minute},
		{Dialog: DialogID{1, 2}, Stage: Confirmed, Caller: user(2), Lapses: 12 * time.Hour}})
	s.e.Resynced(0, ask.ID)
	s.pass(7 * time.Minute)
	s.list("1", 1, 2) // an audit, which says nothing of time-outs
	s.e.Disconnected(0)
	s.pass(13 * time.Minute)
	s.wantLit("12", "held")
	s.pass(time.Minute)
	s.wantLit("2", "the first has timed out")
	s.pass(45 * time.Minute)
	s.wantLit("2", "held")
	s.pass(2 * time.Minute)
	s.wantLit("", "held for an hour")
	if !slices.ContainsFunc(s.notes, func(n Note) bool { return n.Warning && strings.Contains(n.What, "released") }) {
		t.Errorf("nothing was told of it: %v", s.notes)
	}
}

// In step with the proxy, a time-out that has passed ends nothing: it may have been
// extended since.
func TestLapsedButInStep(t *testing.T) {
	s := newScript(t)
	s.e.Connected(0, "1")
	s.list("1")
	s.e.Calls(0, []CallEvent{{Dialog: DialogID{1, 1}, Stage: Confirmed, Caller: user(1), Lapses: time.Second}})
	s.pass(4 * time.Minute)
	s.wantLit("1", "in step")
	s.e.Doubt(0, "events lost")
	s.pass(3 * time.Minute)
	s.wantLit("1", "connected, and the resync takes long")
}

// A list that says nothing of time-outs, but has a call whose time-out is past, says that it
// was extended (session timers): the word of before counts no more.
func TestLapseIsExtended(t *testing.T) {
	s := newScript(t)
	s.e.Connected(0, "1")
	s.list("1")
	s.e.Calls(0, []CallEvent{{Dialog: DialogID{1, 1}, Stage: Confirmed, Caller: user(1), Lapses: time.Minute}})
	s.pass(7 * time.Minute)
	s.list("1", 1)
	s.e.Disconnected(0)
	s.pass(10 * time.Minute)
	s.wantLit("1", "away, and nobody knows when the call times out")
}

// A proxy whose events are doubted again while each list is made is never in step. It does
// answer all the while, and nobody is released.
func TestDoubtedButListed(t *testing.T) {
	s := newScript(t)
	s.e.Connected(0, "1")
	s.list("1")
	s.start(1)
	for range 100 {
		s.e.Doubt(0, "events lost")
		s.pass(time.Minute)
		s.e.Doubt(0, "events lost")
		s.list("1", 1)
	}
	s.wantLit("1", "after 100 minutes")
}

// A list has confirmed a call, and its details are awaited, when the call's time in doubt is
// over: it is not released.
func TestHoldEndsDuringResync(t *testing.T) {
	s := newScript(t)
	s.e.Connected(0, "1")
	s.list("1")
	s.start(1)
	s.e.Disconnected(0)
	s.pass(time.Hour - 5*time.Second)
	s.e.Connected(0, "1")
	s.collect()
	ask := s.lists[0]
	s.e.Listed(0, ask.ID, Listing{Epoch: "1", Live: []Listed{{Dialog: DialogID{1, 1}, Stage: Confirmed}}})
	s.pass(20 * time.Second)
	s.e.Resynced(0, ask.ID)
	s.wantLit("1", "confirmed")
}

// Failing details are counted as drift once, not at every try; and audits that fail on end
// put a proxy out of step.
func TestFailingResyncs(t *testing.T) {
	s := newScript(t)
	s.e.Connected(0, "1")
	s.list("1")
	s.e.Doubt(0, "events lost")
	for range 5 {
		s.pass(20 * time.Second)
		ask := s.lists[0]
		s.lists = nil
		s.e.Listed(0, ask.ID, Listing{Epoch: "1", Live: []Listed{{Dialog: DialogID{1, 1}, Stage: Confirmed}}})
		s.e.ResyncFailed(0, ask.ID, "no details")
	}
	if n := s.e.Stats().Drift[DriftUnseen]; n != 1 {
		t.Errorf("drift counted %d times", n)
	}
	s.pass(20 * time.Second)
	s.list("1", 1)
	if !s.e.ProxyStatuses()[0].InStep {
		t.Error("not in step after a resync")
	}
	for i := 0; i < failedAudits; {
		s.pass(time.Minute)
		for _, ask := range s.lists {
			i++
			s.e.ResyncFailed(0, ask.ID, "no answer")
		}
		s.lists = nil
	}
	if s.e.ProxyStatuses()[0].InStep {
		t.Errorf("in step after %d failed audits", failedAudits)
	}
}

// Who was released for want of an answer is lit again if the proxy comes back with the call.
func TestReleasedAndBack(t *testing.T) {
	s := newScript(t)
	s.e.Connected(0, "1")
	s.list("1")
	s.start(1)
	s.e.Disconnected(0)
	s.pass(61 * time.Minute)
	s.wantLit("", "released")
	s.e.Connected(0, "1")
	s.list("1", 1)
	s.wantLit("1", "back")
}

func TestAuditRunsAnyway(t *testing.T) {
	s := newScript(t)
	s.e.Connected(0, "1")
	s.list("1")
	lists := 0
	for range 600 {
		s.now += time.Second
		s.e.Advance(s.now)
		for _, l := range s.e.Take().Lists {
			lists++
			s.e.Listed(l.Proxy, l.ID, Listing{Epoch: "1"})
			s.e.Resynced(l.Proxy, l.ID)
		}
	}
	if lists < 1 || lists > 3 {
		t.Errorf("%d audits in 10 minutes", lists)
	}
}

func TestTombstonesAreBounded(t *testing.T) {
	var tombs tombstones
	for i := range maxTombs + 1000 {
		tombs.add(DialogID{1, uint32(i)}, time.Duration(i))
	}
	if len(tombs.set) != maxTombs || cap(tombs.queue) > 8*maxTombs {
		t.Errorf("%d tombstones, room for %d", len(tombs.set), cap(tombs.queue))
	}
	tombs.sweep(time.Hour)
	if len(tombs.set) != 0 {
		t.Errorf("%d tombstones after the sweep", len(tombs.set))
	}
}

func TestWheel(t *testing.T) {
	e, err := New(Config{Directory: testDirectory{}})
	if err != nil {
		t.Fatal(err)
	}
	people := make([]person, 5)
	for i := range people {
		people[i].extras, people[i].place = &noExtras, -1
		e.wheel.set(&people[i], time.Duration(i)*time.Second)
	}
	e.wheel.set(&people[4], 500*time.Millisecond) // moved forward
	e.wheel.stop(&people[2])
	e.wheel.stop(&people[2])
	var woken []int
	for now := wheelTick; now < 10*time.Second; now += wheelTick {
		var before [5]bool
		for i := range people {
			before[i] = people[i].alarm.tick != 0
		}
		e.Advance(now)
		for i := range people {
			if before[i] && people[i].alarm.tick == 0 {
				woken = append(woken, i)
			}
		}
	}
	if got := fmt.Sprint(woken); got != "[0 4 1 3]" {
		t.Errorf("woken %s", got)
	}
	if len(e.wheel.buckets) != 0 {
		t.Errorf("%d buckets are left", len(e.wheel.buckets))
	}
}
