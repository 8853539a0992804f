package busylamp

import (
	"slices"
	"testing"
	"time"
)

func TestFold(t *testing.T) {
	s := func(d int) time.Duration { return time.Duration(d) * time.Second }
	for _, c := range []struct {
		name   string
		claims []Claim
		want   State
		source string
	}{
		{"nothing", nil, Available, ""},
		{"one", []Claim{{Source: "calls", State: OnThePhone, Since: s(1), Until: 0}}, OnThePhone, "calls"},
		{"the stronger wins", []Claim{{Source: "calls", State: OnThePhone, Since: s(9), Until: 0}, {Source: "hand", State: DoNotDisturb, Since: s(1), Until: 0}}, DoNotDisturb, "hand"},
		{"of equal ones the newer", []Claim{{Source: "calls", State: OnThePhone, Since: s(1), Until: 0}, {Source: "pbx", State: OnThePhone, Since: s(2), Until: 0}}, OnThePhone, "pbx"},
		{"a lapsed one does not count", []Claim{{Source: "hand", State: DoNotDisturb, Since: s(1), Until: s(10)}, {Source: "calls", State: OnThePhone, Since: s(1), Until: 0}}, OnThePhone, "calls"},
		{"unknown is no presence", []Claim{{Source: "x", State: Unknown, Since: s(1), Until: 0}}, Available, ""},
		{"offline is what is left", []Claim{{Source: "x", State: Unknown, Since: s(2), Until: 0}, {Source: "y", State: Offline, Since: s(1), Until: 0}}, Offline, "y"},
	} {
		r := newRules(nil, nil, "")
		got := r.fold(&person{extras: &extras{claims: c.claims}}, s(10), nil)
		if got.State != c.want || got.Source != c.source {
			t.Errorf("%s: got %v by %q, want %v by %q", c.name, got.State, got.Source, c.want, c.source)
		}
	}
}

// A claim with an end lapses by itself, and what it covered shows again.
func TestClaimLapses(t *testing.T) {
	s := newScript(t)
	s.e.Claim(userA, Claim{Source: "hand", State: DoNotDisturb, Since: s.now, Until: 30 * time.Second})
	s.collect()
	s.settled(s.expect(Initial, ""), ok("t1", 600*time.Second))
	s.busy(true)
	s.quiet(4 * time.Second) // no change: do-not-disturb covers the call
	for len(s.out) == 0 || s.out[0].Kind != Modify {
		for len(s.out) > 0 {
			s.settled(s.expect(Refresh, "t1"), ok("t1", 600*time.Second)) // sentinels
		}
		if s.pass(wheelTick); s.now > time.Minute {
			t.Fatal("the claim did not lapse")
		}
	}
	if r := s.expect(Modify, "t1"); r.State != OnThePhone || s.now < 30*time.Second || s.now > 31*time.Second {
		t.Errorf("%v at %v", r.State, s.now)
	}
}

func TestEarly(t *testing.T) {
	for _, early := range []bool{false, true} {
		e, err := New(Config{Proxies: []string{"p"}, Directory: testDirectory{}, Early: early})
		if err != nil {
			t.Fatal(err)
		}
		id := DialogID{1, 1}
		state := func() State { v, _ := e.View(userB); return v.State }
		e.Calls(0, []CallEvent{{Dialog: id, Stage: Early, Seq: 1, Caller: string(userA), Callee: string(userB)}})
		if want := map[bool]State{true: Ringing}[early]; state() != want {
			t.Errorf("early %v: %v while it rings, want %v", early, state(), want)
		}
		e.Calls(0, []CallEvent{{Dialog: id, Stage: Confirmed, Seq: 2, Caller: string(userA), Callee: "sip:c@example.com"}})
		if v, found := e.View(userB); found {
			t.Errorf("early %v: %v though another answered", early, v.State)
		}
		e.Calls(0, []CallEvent{{Dialog: id, Stage: Ended, Seq: 3}, {Dialog: id, Stage: Early, Seq: 1, Caller: string(userA)}})
		if n := e.Stats().People; n != 0 { // kamailio#3192: early after the end
			t.Errorf("early %v: %d people are kept", early, n)
		}
	}
}

func TestWhoIsNobody(t *testing.T) {
	s := newScript(t)
	for i, uri := range []string{"", "none", "sip:a@elsewhere.org", "sip:\x00@example.com", "nonsense"} {
		s.e.Calls(0, []CallEvent{{Dialog: DialogID{2, uint32(i)}, Stage: Confirmed, Caller: uri, Callee: string(userB)}})
	}
	st := s.e.Stats()
	if st.People != 0 || st.Calls != 5 || st.BadURI != 2 || st.Foreign != 1 {
		t.Errorf("%+v", st)
	}
}

func TestCallsOf(t *testing.T) {
	s := newScript(t)
	s.e.Calls(1, []CallEvent{{Dialog: DialogID{3, 4}, Stage: Confirmed, Caller: string(userA), CallID: "x@y"}})
	calls := s.e.CallsOf(userA, 10)
	if len(calls) != 1 || calls[0] != (CallView{Proxy: "p2", Dialog: DialogID{3, 4}, CallID: "x@y", Stage: Confirmed}) {
		t.Errorf("%+v", calls)
	}
	if calls = s.e.CallsOf(userB, 10); calls != nil {
		t.Errorf("%+v", calls)
	}
}

// Trouble is told when it begins and when it ends, and not in between.
func TestNotes(t *testing.T) {
	s := newScript(t)
	s.e.Connected(0, "1")
	s.busy(true)
	var told []string
	tell := func() {
		work := s.e.Take()
		for _, n := range work.Notes {
			told = append(told, n.Kind+": "+n.What)
		}
		for _, p := range work.Publish {
			s.out = append(s.out, p.Request)
		}
		s.lists = append(s.lists, work.Lists...)
	}
	for i := range 400 {
		for _, r := range s.out {
			s.out = nil
			if i < 20 {
				s.e.Settled(r, refusal)
			} else {
				s.e.Settled(r, ok("t", time.Minute))
			}
		}
		for _, l := range s.lists {
			s.lists = nil
			if i < 20 {
				s.e.ResyncFailed(l.Proxy, l.ID, "no answer")
			} else {
				s.e.Listed(l.Proxy, l.ID, Listing{Epoch: "1", Live: []Listed{{Dialog: DialogID{1, 1}, Stage: Confirmed}}})
				s.e.Resynced(l.Proxy, l.ID)
			}
		}
		s.now += 15 * time.Second
		s.e.Advance(s.now)
		tell()
	}
	want := []string{"proxy: cannot ask the proxy for its calls; nobody is cleared until it answers",
		"publisher: a PUBLISH was not accepted; it will be tried again",
		"proxy: the proxy answers again", "publisher: the presence server accepts again"}
	slices.Sort(told)
	slices.Sort(want)
	if !slices.Equal(told, want) {
		t.Errorf("told %q", told)
	}
}

// With only JSON-RPC failing, calls in doubt are released after Config.Hold.
func TestHoldWithoutRPC(t *testing.T) {
	s := newScript(t)
	s.e.Connected(0, "1")
	s.list("1")
	s.start(1)
	s.e.Disconnected(0)
	s.e.Connected(0, "2") // call 1 is of a former life, and nobody says whether it lives on
	s.pass(59 * time.Minute)
	s.wantLit("1", "held")
	s.start(2)
	s.pass(2 * time.Minute)
	s.wantLit("2", "released")
}

// A removal does not wait behind refreshes.
func TestRemovalOvertakes(t *testing.T) {
	e, err := New(Config{Proxies: []string{"p"}, Directory: testDirectory{}, Sides: SideCaller,
		Publishers: []PublisherConfig{{Name: "s", Max: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	var sent []Request
	collect := func() {
		for _, p := range e.Take().Publish {
			sent = append(sent, p.Request)
		}
	}
	for i := range 10 {
		e.Calls(0, []CallEvent{{Dialog: DialogID{1, uint32(i)}, Stage: Confirmed, Caller: user(i)}})
		collect()
		e.Settled(sent[len(sent)-1], ok("t", 100*time.Second))
	}
	e.Advance(85 * time.Second) // all refreshes are due, one is outstanding
	collect()
	refreshing := sent[len(sent)-1]
	last := 9
	if refreshing.Presentity == Presentity(user(9)) {
		last = 8
	}
	e.Calls(0, []CallEvent{{Dialog: DialogID{1, uint32(last)}, Stage: Ended}})
	e.Settled(refreshing, ok("t", 100*time.Second))
	collect()
	if r := sent[len(sent)-1]; r.Kind != Remove || r.Presentity != Presentity(user(last)) {
		t.Errorf("after the outstanding one: %v of %s", r.Kind, r.Presentity)
	}
}
