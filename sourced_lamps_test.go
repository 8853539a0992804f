package busylamp

import (
	"fmt"
	"testing"
	"time"
)

// These are ways in which a source once put a lamp out, or left one on.

// What an earlier life published at one server is held there, and nowhere else.
func TestTakeOverByPublisher(t *testing.T) {
	record := func(publisher string, s State) Record {
		return Record{Publisher: publisher, Presentity: userA, Tag: "t", State: s, Expires: time.Hour, Refresh: 30 * time.Minute, Sourced: s != OnThePhone}
	}
	for _, c := range []struct {
		name    string
		change  func(*Config)
		records []Record
		want    [2]State
	}{
		{"halves", func(cfg *Config) { cfg.Publishers[0].Part, cfg.Publishers[1].Part = TelephonyOnly, RichOnly },
			[]Record{record("s", OnThePhone), record("other", Away)}, [2]State{OnThePhone, Away}},
		{"all and rich", func(cfg *Config) { cfg.Publishers[1].Part = RichOnly },
			[]Record{record("s", OnThePhone), record("other", Away)}, [2]State{OnThePhone, Away}},
		{"one of two", func(*Config) {}, []Record{record("other", Meeting)}, [2]State{Unknown, Meeting}},
		{"deaf to the source", func(cfg *Config) { cfg.Sources[0].Reads = []string{"s"} }, []Record{record("other", Meeting)}, [2]State{Unknown, Meeting}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWatching(t, c.change)
			w.e.TakeOver(c.records)
			w.e.Watch(userA, "x", 0)
			w.pass(time.Second)
			for i, want := range c.want {
				w.shows(i, want)
			}
			w.up(0, SourceInfo{})
			w.up(1, SourceInfo{})
			w.pass(time.Second)
			w.goes(1, userA, NotFound)
			w.says(0, Statement{Presentity: userA, State: Meeting})
			if v, _ := w.e.View(userA); v.State != Meeting || v.Sources[0].Echo {
				t.Errorf("%+v", v)
			}
			if c.name == "deaf to the source" {
				w.shows(0, Unknown)
				w.shows(1, Meeting)
			}
		})
	}
}

// What no call can have made waits for no proxy.
func TestTakeOverWithoutProxy(t *testing.T) {
	cfg := Config{Proxies: []string{"p1"}, Directory: testDirectory{}, Publishers: []PublisherConfig{{Name: "s", NoSentinel: true}},
		Sources: []SourceConfig{{Name: "a", Grace: time.Second, FailedDelay: time.Minute, MaxFailedDelay: time.Hour}}}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := &watching{script: &script{t: t, e: e}}
	for who, state := range map[Presentity]State{userA: Meeting, userB: OnThePhone} {
		w.e.TakeOver([]Record{{Publisher: "s", Presentity: who, Tag: "t", State: state, Expires: time.Hour, Refresh: 30 * time.Minute, Sourced: true}})
		w.e.Watch(who, "x", 0)
	}
	w.up(0, SourceInfo{})
	for _, who := range []Presentity{userA, userB} {
		w.says(0, Statement{Presentity: who, State: Available})
	}
	w.shows(0, Unknown)
	if v, _ := w.e.View(userB); v.State != OnThePhone {
		t.Errorf("who may be in a call is %v before the proxy has answered", v.State)
	}
}

// What is read at a server where it was published until now is ours for a moment, and then
// another's; what was another's is heard when ours is gone.
func TestEchoIsLookedAtAgain(t *testing.T) {
	w := newWatching(t, func(cfg *Config) { cfg.Sources[0].Reads = []string{"s"} })
	w.up(0, SourceInfo{})
	w.e.Watch(userA, "x", 0)
	w.take()
	w.goes(0, userA, Subscribed)
	call := func(s Stage, id uint32) {
		w.e.Calls(0, []CallEvent{{Dialog: DialogID{1, id}, Stage: s, Caller: string(userA)}})
		w.take()
	}
	call(Confirmed, 1)
	call(Ended, 1)
	w.says(0, Statement{Presentity: userA, State: OnThePhone}) // our own word, late
	w.shows(1, Unknown)
	w.says(0, Statement{Presentity: userA, State: Available})
	w.says(0, Statement{Presentity: userA, State: OnThePhone}) // not ours any more
	w.shows(1, OnThePhone)
	w.says(0, Statement{Presentity: userA, State: Available})

	call(Confirmed, 2)
	w.says(0, Statement{Presentity: userA, State: OnThePhone}) // ours, and another's
	call(Ended, 2)
	w.pass(echoTime + time.Second)
	w.shows(1, OnThePhone)
	w.shows(0, Unknown)
}

// A body does not say all of a state: what it is read as is an echo, too.
func TestEchoReadsOtherwise(t *testing.T) {
	w := newWatching(t, func(cfg *Config) {
		cfg.Sources[0].Reads, cfg.Sources[1].Reads = []string{"s"}, []string{"other"}
		cfg.Sources = append(cfg.Sources, SourceConfig{Name: "c", Grace: time.Second})
		for i := range cfg.Publishers {
			cfg.Publishers[i].SeenAs = func(State) State { return Busy }
		}
	})
	for i := range 3 {
		w.up(i, SourceInfo{})
	}
	w.e.Watch(userA, "x", 0)
	w.take()
	w.says(2, Statement{Presentity: userA, State: Presenting})
	w.says(0, Statement{Presentity: userA, State: Busy})
	w.says(1, Statement{Presentity: userA, State: Busy})
	w.says(2, Statement{Presentity: userA, State: Available})
	w.shows(0, Unknown)
	w.shows(1, Unknown)
}

// Users whose lamps are lit wait for their turn to be asked for, and stay lit meanwhile.
func TestManyAreAskedForAgain(t *testing.T) {
	const lit = 2000
	w := newWatching(t, nil)
	w.up(0, SourceInfo{Batch: lit})
	for i := range lit {
		w.e.Watch(Presentity(fmt.Sprintf("sip:u%d@example.com", i)), "x", 0)
	}
	w.pass(time.Second)
	for i := range lit {
		w.says(0, Statement{Presentity: Presentity(fmt.Sprintf("sip:u%d@example.com", i)), State: Busy})
	}
	w.asked = nil
	w.up(0, SourceInfo{}) // its next life, which asks for each by itself
	for w.now < 3*time.Minute {
		w.pass(wheelTick)
		for _, a := range w.asked {
			for _, target := range a.Watch {
				w.says(0, Statement{Presentity: target.Presentity, State: Busy})
			}
		}
		w.asked = nil
		if n := w.e.Live(); n != 2*lit {
			t.Fatalf("at %v: %d publications of %d", w.now, n, 2*lit)
		}
	}
	if st := w.e.SourceStatuses()[0]; st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
}

// An administrator's look ends with no trace: what is pushed stays.
func TestLookAtPushed(t *testing.T) {
	w := newWatching(t, nil)
	w.up(0, SourceInfo{Unasked: true})
	w.says(0, Statement{Presentity: userA, State: DoNotDisturb, For: 8 * time.Hour})
	w.e.Watch(userA, "http", time.Minute)
	if v, _ := w.e.View(userA); v.Sources[0].Status != "do not disturb" {
		t.Errorf("%+v", v.Sources)
	}
	w.pass(2 * time.Minute)
	w.shows(0, DoNotDisturb)
	w.report(0, SourceReport{Connector: ConnectionError})
	w.report(0, SourceReport{Connector: ConnectorUp})
	w.pass(5 * time.Minute)
	w.shows(0, DoNotDisturb) // it has a while to say so again
	w.pass(askedLate)
	w.shows(0, Unknown)
}

// A claim ends when it does, whatever else sets the same clock.
func TestLapsesBetweenTicks(t *testing.T) {
	w := newWatching(t, func(cfg *Config) { cfg.Sources[1].Grace = time.Hour })
	w.up(0, SourceInfo{})
	w.up(1, SourceInfo{})
	w.e.Watch(userA, "x", 0)
	w.take()
	w.says(0, Statement{Presentity: userA, State: DoNotDisturb, For: 950 * time.Millisecond})
	w.says(1, Statement{Presentity: userA, State: Away})
	w.pass(900 * time.Millisecond)
	w.now = 970 * time.Millisecond
	w.e.Advance(w.now)
	w.report(1, SourceReport{Down: "killed"})
	w.now = time.Second
	w.pass(time.Second)
	w.shows(0, Away)
}

// What a source says though it has no connection, or no subscription, it cannot know for long.
func TestClaimsWithoutGround(t *testing.T) {
	for name, r := range map[string]SourceReport{
		"no connection":   {Connector: ConnectionError},
		"no subscription": {Subscriptions: []SubscriptionReport{{Presentity: userA, State: AccessDenied}}},
	} {
		w := newWatching(t, nil)
		w.up(0, SourceInfo{})
		w.e.Watch(userA, "x", 0)
		w.take()
		r.Statements = []Statement{{Presentity: userA, State: DoNotDisturb}}
		w.report(0, r)
		w.shows(0, DoNotDisturb)
		w.e.SourceStatuses()
		w.pass(31 * time.Second)
		w.report(0, SourceReport{Down: "so that nothing is asked again"})
		w.shows(0, Unknown)
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// A stale statement does not come back to life after a withdrawal.
func TestStaleAfterWithdrawal(t *testing.T) {
	w := newWatching(t, nil)
	w.up(0, SourceInfo{})
	w.e.Watch(userA, "x", 0)
	w.take()
	for _, st := range []Statement{{State: Busy, Sequence: 5}, {Sequence: 7}, {State: DoNotDisturb, Sequence: 6}} {
		st.Presentity = userA
		w.says(0, st)
	}
	w.shows(0, Unknown)
	w.up(0, SourceInfo{}) // numbers anew
	w.pass(time.Second)
	w.says(0, Statement{Presentity: userA, State: Busy, Sequence: 1})
	w.shows(0, Busy)
}

// A preferred source decides what people chose, and not whether a phone is busy.
func TestPreferredIsRich(t *testing.T) {
	w := newWatching(t, func(cfg *Config) { cfg.Preferred = "a" })
	w.up(0, SourceInfo{})
	w.up(1, SourceInfo{})
	w.e.Watch(userA, "x", 0)
	w.take()
	w.says(0, Statement{Presentity: userA, State: Available})
	w.says(1, Statement{Presentity: userA, State: OnThePhone, Telephony: true})
	w.shows(0, OnThePhone)
}

// What a source reports about somebody whom it was not asked for changes nothing, and cannot
// fill anything.
func TestReportsBesides(t *testing.T) {
	w := newWatching(t, nil)
	w.up(0, SourceInfo{Endpoints: 2})
	w.e.Watch(userA, "x", 0)
	w.take()
	for range 4 {
		w.report(0, SourceReport{Subscriptions: []SubscriptionReport{{Presentity: userA, State: AccessDenied}}})
	}
	if len(w.asked) < 2 || w.asked[1].Watch[0].Endpoint != 1 {
		t.Errorf("the second endpoint is not asked: %+v", w.asked)
	}
	if v, _ := w.e.View(userA); v.Sources[0].GaveUp || v.Sources[0].Failures > 1 {
		t.Errorf("%+v", v.Sources[0])
	}
	w.report(0, SourceReport{Connector: ConnectionError})
	for range 1000 {
		w.report(0, SourceReport{Subscriptions: []SubscriptionReport{{Presentity: userA, State: SubscriptionError}}})
	}
	if st := w.e.SourceStatuses()[0]; st.Waiting > 1 {
		t.Errorf("%d wait, of one", st.Waiting)
	}
}

// A subscription that is accepted and then refused is a failure like any: later and later, and
// given up.
func TestAcceptedAndRefused(t *testing.T) {
	w := newWatching(t, nil)
	w.up(0, SourceInfo{})
	w.e.Watch(userA, "x", 0)
	w.take()
	for _, want := range []time.Duration{10, 20, 40} {
		w.goes(0, userA, Subscribed)
		w.goes(0, userA, AccessDenied)
		if got := w.next(time.Minute).Round(time.Second); got != want*time.Second {
			t.Errorf("asked again after %v, want %v s", got, int64(want))
		}
	}
	w.goes(0, userA, Subscribed)
	w.goes(0, userA, AccessDenied)
	if v, _ := w.e.View(userA); !v.Sources[0].GaveUp {
		t.Errorf("%+v", v.Sources[0])
	}
	w.e.Watch(userA, "y", 0)
	if w.take(); len(w.asked) != 1 {
		t.Error("somebody else asks, and it is not tried again")
	}
}

// Whom a source may still watch is always unwatched.
func TestUnwatchedWhileWaiting(t *testing.T) {
	w := newWatching(t, func(cfg *Config) { cfg.Sources[0].PerSecond = 1 })
	w.up(0, SourceInfo{})
	for _, who := range []Presentity{userB, userA} {
		w.e.Watch(who, "x", 0)
		w.pass(2 * time.Second)
		w.goes(0, who, Subscribed)
	}
	w.report(0, SourceReport{Connector: ConnectionError})
	w.report(0, SourceReport{Connector: ConnectorUp})
	w.asked = nil
	w.e.Unwatch(userA, "x")
	w.take()
	if len(w.asked) != 1 || len(w.asked[0].Unwatch) != 1 {
		t.Errorf("%+v", w.asked)
	}
}

// A reload that allows more tries has those tried who were given up, and starts no second anew.
func TestHandoverOfLimits(t *testing.T) {
	w := newWatching(t, func(cfg *Config) { cfg.Sources[0].MaxFailures = 1 })
	w.up(0, SourceInfo{})
	w.e.Watch(userA, "x", 0)
	w.take()
	for range 2 {
		w.goes(0, userA, NotFound)
		w.pass(time.Minute)
	}
	if v, _ := w.e.View(userA); !v.Sources[0].GaveUp {
		t.Fatalf("%+v", v.Sources[0])
	}
	for i := range 20 {
		w.e.Watch(Presentity(fmt.Sprintf("sip:u%d@example.com", i)), "x", 0)
	}
	w.asked = nil
	w.pass(900 * time.Millisecond)
	before := len(w.asked)

	next := newWatching(t, func(cfg *Config) { cfg.Sources[0].MaxFailures = 0 })
	next.e.Watch(userA, "x", 0)
	for i := range 20 {
		next.e.Watch(Presentity(fmt.Sprintf("sip:u%d@example.com", i)), "x", 0)
	}
	next.e.Inherit(w.e.Handover(w.now), map[string]bool{"a": true})
	next.pass(100 * time.Millisecond)
	if n := before + len(next.asked); n > 15 {
		t.Errorf("asked %d times within a second", n)
	}
	next.pass(5 * time.Second)
	found := false
	for _, a := range next.asked {
		found = found || a.Watch[0].Presentity == userA
	}
	if !found {
		t.Error("who was given up is not tried again")
	}
}
