package busylamp

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// script drives an engine with one publisher and one user, and tells what was sent.
type script struct {
	t   *testing.T
	e   *Engine
	now time.Duration
	out []Request

	lists []ListWork
	notes []Note
}

const (
	userA = Presentity("sip:a@example.com")
	userB = Presentity("sip:b@example.com")
)

func newScript(t *testing.T) *script {
	e, err := New(Config{Proxies: []string{"p1", "p2"}, Directory: testDirectory{}, Sides: SideCaller,
		Publishers: []PublisherConfig{{Name: "s", Expires: 600 * time.Second}}})
	if err != nil {
		t.Fatal(err)
	}
	return &script{t: t, e: e}
}

func (s *script) collect() {
	work := s.e.Take()
	for _, p := range work.Publish {
		s.out = append(s.out, p.Request)
	}
	s.lists = append(s.lists, work.Lists...)
	s.notes = append(s.notes, work.Notes...)
}

func (s *script) busy(on bool) {
	ev := CallEvent{Dialog: DialogID{1, 1}, Stage: Confirmed, Caller: string(userA)}
	if !on {
		s.e.Calls(0, []CallEvent{{Dialog: DialogID{1, 1}, Stage: Ended}})
		s.e.proxies[0].tombs = tombstones{} // the next call of the script has the same number
	} else {
		s.e.Calls(0, []CallEvent{ev})
	}
	s.collect()
}

func (s *script) pass(d time.Duration) {
	for end := s.now + d; s.now < end; {
		s.now += wheelTick
		s.e.Advance(s.now)
		s.collect()
	}
}

// expect takes the one request that must be outstanding.
func (s *script) expect(k Kind, tag string) Request {
	s.t.Helper()
	if len(s.out) != 1 {
		s.t.Fatalf("at %v: %d requests outstanding, want one %v: %+v", s.now, len(s.out), k, s.out)
	}
	r := s.out[0]
	s.out = nil
	if r.Kind != k || r.Tag != tag {
		s.t.Fatalf("at %v: got %v with tag %q, want %v with %q", s.now, r.Kind, r.Tag, k, tag)
	}
	return r
}

// await lets time pass until something is sent.
func (s *script) await() {
	s.t.Helper()
	for end := s.now + 24*time.Hour; len(s.out) == 0; s.pass(wheelTick) {
		if s.now > end {
			s.t.Fatal("nothing is sent for a day")
		}
	}
}

func (s *script) quiet(d time.Duration) {
	s.t.Helper()
	s.pass(d)
	if len(s.out) > 0 {
		s.t.Fatalf("at %v: unexpected %+v", s.now, s.out)
	}
}

func (s *script) settled(r Request, o Outcome) {
	s.e.Settled(r, o)
	s.collect()
}

func ok(tag string, life time.Duration) Outcome {
	return Outcome{Result: Accepted, Code: 200, Tag: tag, Expires: life}
}

var (
	gone    = Outcome{Result: Gone, Code: 412}
	failure = Outcome{Result: Failed, Code: 500}
	timeout = Outcome{Result: Unavailable, Reason: "no answer"}
	refusal = Outcome{Result: Refused, Code: 403}
)

func TestPublicationLifecycle(t *testing.T) {
	s := newScript(t)
	s.busy(true)
	s.settled(s.expect(Initial, ""), ok("t1", 60*time.Second))
	s.busy(false)
	s.settled(s.expect(Remove, "t1"), ok("", 0))
	s.quiet(10 * time.Minute)
	if n := s.e.Stats().People; n != 0 {
		t.Errorf("%d people are kept", n)
	}
}

// The server's Expires counts, not ours, and every 200 brings the next tag.
func TestRefreshChain(t *testing.T) {
	s := newScript(t)
	s.busy(true)
	s.settled(s.expect(Initial, ""), ok("t0", 4*time.Second))
	for i := range 20 {
		sent := s.now
		for len(s.out) == 0 && s.now < sent+4*time.Second {
			s.pass(wheelTick)
		}
		if age := s.now - sent; age < 2400*time.Millisecond || age > 3400*time.Millisecond {
			t.Fatalf("refreshed after %v of 4 s", age)
		}
		s.settled(s.expect(Refresh, fmt.Sprint("t", i)), ok(fmt.Sprint("t", i+1), 4*time.Second))
	}
}

// kamailio#724, #2048: a change while a request is outstanding waits for its tag.
func TestOneOutstanding(t *testing.T) {
	s := newScript(t)
	s.busy(true)
	first := s.expect(Initial, "")
	for range 5 {
		s.busy(false)
		s.busy(true)
	}
	s.busy(false)
	s.quiet(time.Second)
	s.settled(first, ok("t1", 600*time.Second))
	s.settled(s.expect(Remove, "t1"), ok("", 0)) // the burst ends in one request
	s.quiet(time.Minute)
}

func TestGone(t *testing.T) {
	s := newScript(t)
	s.busy(true)
	s.settled(s.expect(Initial, ""), ok("t1", 600*time.Second))
	s.pass(sentinelAge + sentinelEvery)
	s.settled(s.expect(Refresh, "t1"), gone)
	s.settled(s.expect(Initial, ""), ok("t2", 600*time.Second)) // at once
	s.busy(false)
	s.settled(s.expect(Remove, "t2"), gone) // what is gone need not be removed
	s.quiet(time.Minute)
}

// A server that answers 412 to everything is not raced.
func TestGoneForever(t *testing.T) {
	s := newScript(t)
	s.busy(true)
	sent := 0
	for s.now < 10*time.Minute {
		for len(s.out) > 0 {
			sent++
			s.settled(s.expect(Initial, ""), gone)
		}
		s.pass(wheelTick)
	}
	if sent < 10 || sent > 60 {
		t.Errorf("%d requests in 10 minutes", sent)
	}
}

// TestLateAnswer: the server may have begun a publication's lifetime when the request was sent,
// or when it was repeated for the last time. What was sent in vain for longer than it lives is
// there when the answer comes, and is to be removed, or refreshed at once.
func TestLateAnswer(t *testing.T) {
	for _, over := range []bool{true, false} {
		s := newScript(t)
		s.busy(true)
		r := s.expect(Initial, "")
		s.pass(29 * time.Second)
		if over {
			s.busy(false)
		}
		s.settled(r, ok("t1", 25*time.Second))
		if over {
			s.settled(s.expect(Remove, "t1"), ok("", 0))
		} else {
			s.pass(time.Second)
			s.settled(s.expect(Refresh, "t1"), ok("t2", 25*time.Second))
		}
		s.quiet(10 * time.Second)
	}
}

// An unanswered change may have been taken: the state at the server is in doubt until a
// request has been answered.
func TestUnansweredRemoveThenBusy(t *testing.T) {
	s := newScript(t)
	s.busy(true)
	s.settled(s.expect(Initial, ""), ok("t1", 600*time.Second))
	s.busy(false)
	s.settled(s.expect(Remove, "t1"), timeout)
	s.busy(true)
	s.pass(time.Second)
	s.settled(s.expect(Modify, "t1"), gone) // it had been removed
	s.settled(s.expect(Initial, ""), ok("t2", 600*time.Second))
}

func TestBackoff(t *testing.T) {
	s := newScript(t)
	s.busy(true)
	var waits []string
	last := time.Duration(0)
	for range 9 {
		for len(s.out) == 0 {
			s.pass(wheelTick)
		}
		waits = append(waits, (s.now - last).Round(time.Second).String())
		last = s.now
		s.settled(s.expect(Initial, ""), failure)
	}
	if d := s.now - last; d > failedMost*5/4 {
		t.Errorf("waited %v", d)
	}
	if got := strings.Join(waits[:3], " "); !strings.HasPrefix(got, "0s 1s 1s") && !strings.HasPrefix(got, "0s 0s 1s") && !strings.HasPrefix(got, "0s 1s 2s") {
		t.Errorf("waits begin with %s", got)
	}
	t.Logf("waits after failures: %v", waits)
}

// A call that ends while its publication fails leaves nothing behind.
func TestEndDuringBackoff(t *testing.T) {
	s := newScript(t)
	s.busy(true)
	s.settled(s.expect(Initial, ""), failure)
	s.busy(false)
	s.quiet(time.Hour)
	if n := s.e.Stats().People; n != 0 {
		t.Errorf("%d people are kept", n)
	}
}

func TestRefusedIsNotHammered(t *testing.T) {
	s := newScript(t)
	s.busy(true)
	sent := 0
	for s.now < time.Hour {
		for len(s.out) > 0 {
			sent++
			s.settled(s.expect(Initial, ""), refusal)
		}
		s.pass(wheelTick)
	}
	if sent < 6 || sent > 12 { // 0, 30 s, 90 s, 210 s, 450 s, and every 10 minutes
		t.Errorf("%d requests in an hour", sent)
	}
}

// A server that lets a publication lapse, because it could not be refreshed or removed,
// is not asked about it again.
func TestLapsed(t *testing.T) {
	s := newScript(t)
	s.busy(true)
	s.settled(s.expect(Initial, ""), ok("t1", 30*time.Second))
	s.busy(false)
	for s.now < 2*time.Minute {
		for len(s.out) > 0 {
			s.settled(s.expect(Remove, "t1"), timeout)
		}
		s.pass(wheelTick)
	}
	if n := s.e.Stats().People; n != 0 {
		t.Errorf("%d people are kept", n)
	}
}

// A 200 without SIP-ETag and Expires (Asterisk's test server): nothing can be refreshed,
// so it is published afresh in time, and removed as well as can be.
func TestBareOK(t *testing.T) {
	s := newScript(t)
	s.busy(true)
	s.settled(s.expect(Initial, ""), ok("", 0))
	s.pass(sentinelAge + sentinelEvery)
	s.settled(s.expect(Initial, ""), ok("", 0))
	s.busy(false)
	s.settled(s.expect(Remove, ""), ok("", 0))
	s.quiet(time.Minute)
}

// kamailio#2906, #1427: the end of one call does not clear another.
func TestTwoCallsOfOneUser(t *testing.T) {
	s := newScript(t)
	call := func(proxy int, id uint32, stage Stage) {
		s.e.Calls(proxy, []CallEvent{{Dialog: DialogID{1, id}, Stage: stage, Caller: string(userA)}})
		s.collect()
	}
	call(0, 1, Confirmed)
	s.settled(s.expect(Initial, ""), ok("t1", 600*time.Second))
	call(1, 1, Confirmed) // another proxy's dialog of the same number
	call(0, 1, Ended)
	s.quiet(time.Second)
	call(1, 1, Ended)
	s.settled(s.expect(Remove, "t1"), ok("", 0))
}

func TestWithdraw(t *testing.T) {
	s := newScript(t)
	s.busy(true)
	s.settled(s.expect(Initial, ""), ok("t1", 600*time.Second))
	s.e.Withdraw()
	s.collect()
	s.busy(false)
	s.busy(true) // too late
	s.settled(s.expect(Remove, "t1"), ok("", 0))
	s.quiet(time.Minute)
	if n := s.e.Live(); n != 0 {
		t.Errorf("%d publications live", n)
	}
}

// One publisher's silence fills its own places only.
func TestPublishersAreApart(t *testing.T) {
	e, err := New(Config{Proxies: []string{"p"}, Directory: testDirectory{}, Sides: SideCaller,
		Publishers: []PublisherConfig{{Name: "dead", Max: 2}, {Name: "well", Max: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	well := 0
	for i := range 50 {
		e.Calls(0, []CallEvent{{Dialog: DialogID{1, uint32(i)}, Stage: Confirmed, Caller: user(i)}})
		for _, p := range e.Take().Publish {
			if p.Publisher == 1 {
				well++
				e.Settled(p.Request, ok("t", time.Minute))
			}
		}
	}
	if st := e.Stats(); well != 50 || st.Publishers[0].InFlight != 2 || st.Publishers[0].Waiting != 48 {
		t.Errorf("%d published by the one that is well; the other has %d outstanding, %d waiting", well, st.Publishers[0].InFlight, st.Publishers[0].Waiting)
	}
}
