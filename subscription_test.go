package busylamp

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// watching drives an engine with two sources, a and b.
type watching struct {
	*script
	asked    []WatchWork
	statuses []string
}

func newWatching(t *testing.T, change func(*Config)) *watching {
	cfg := Config{Proxies: []string{"p1"}, Directory: testDirectory{}, Sides: SideCaller,
		Publishers: []PublisherConfig{{Name: "s", NoSentinel: true}, {Name: "other", NoSentinel: true}},
		Sources: []SourceConfig{{Name: "a", PerSecond: 15, FailedDelay: 10 * time.Second, MaxFailedDelay: 100 * time.Second, MaxFailures: 3, Grace: 30 * time.Second},
			{Name: "b", Grace: 30 * time.Second, FailedDelay: 900 * time.Second, MaxFailedDelay: 8 * time.Hour}}}
	if change != nil {
		change(&cfg)
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := &watching{script: &script{t: t, e: e}}
	w.e.Connected(0, "1")
	w.take()
	return w
}

// take notes what the engine wants, and accepts what is published.
func (w *watching) take() {
	for work := w.e.Take(); ; work = w.e.Take() {
		w.asked = append(w.asked, work.Watches...)
		for _, c := range work.Statuses {
			w.statuses = append(w.statuses, fmt.Sprintf("%s %s: %s -> %s", c.Source, c.Presentity, c.Old, c.New))
		}
		for _, l := range work.Lists {
			w.e.Listed(l.Proxy, l.ID, Listing{Epoch: "1"})
		}
		for _, d := range work.Details {
			w.e.Resynced(d.Proxy, d.ID)
		}
		if len(work.Publish)+len(work.Lists)+len(work.Details) == 0 {
			return
		}
		for _, p := range work.Publish {
			w.e.Settled(p.Request, Outcome{Result: Accepted, Tag: "t", Expires: p.Request.Expires, Code: 200})
		}
	}
}

func (w *watching) pass(d time.Duration) {
	for end := w.now + d; w.now < end; {
		w.now += wheelTick
		w.e.Advance(w.now)
		w.take()
	}
}

func (w *watching) report(source int, r SourceReport) {
	w.e.Report(source, r)
	w.take()
}

func (w *watching) up(source int, info SourceInfo) {
	w.report(source, SourceReport{Up: &info, Connector: ConnectorUp})
}

func (w *watching) goes(source int, who Presentity, s SubscriptionState) {
	w.asked = nil
	w.report(source, SourceReport{Subscriptions: []SubscriptionReport{{Presentity: who, State: s}}})
}

func (w *watching) says(source int, st Statement) {
	w.report(source, SourceReport{Statements: []Statement{st}})
}

// next returns when a source is asked for somebody, from the last report or now.
func (w *watching) next(within time.Duration) time.Duration {
	w.t.Helper()
	began := w.now
	for ; w.now < began+within; w.pass(wheelTick) {
		if len(w.asked) > 0 {
			return w.now - began
		}
	}
	w.t.Fatalf("nobody was asked within %v", within)
	return 0
}

func (w *watching) shows(publisher int, want State) {
	w.t.Helper()
	v, _ := w.e.View(userA)
	got := Unknown
	if len(v.Publications) > 0 {
		got = v.Publications[publisher].Has
	}
	if got != want {
		w.t.Errorf("at %v: publisher %d shows %v, want %v", w.now, publisher, got, want)
	}
}

// The back-off of the contact centres: 10, 20, 40, ... up to the most; and after the third
// failure and one more it is given up, until the source begins anew.
func TestFailedSubscriptions(t *testing.T) {
	for _, c := range []struct {
		failures int
		want     []time.Duration
	}{
		{3, []time.Duration{10, 20, 40}},
		{0, []time.Duration{10, 20, 40, 80, 100, 100, 100}},
	} {
		w := newWatching(t, func(cfg *Config) { cfg.Sources[0].MaxFailures = c.failures })
		w.up(0, SourceInfo{})
		w.e.Watch(userA, "x", 0)
		w.take()
		var got []time.Duration
		for range c.want {
			w.goes(0, userA, NotFound)
			got = append(got, w.next(200*time.Second).Round(time.Second)/time.Second)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("asked again after %v, want %v", got, c.want)
		}
		if c.failures == 0 {
			continue
		}
		w.goes(0, userA, NotFound)
		w.asked = nil
		w.pass(24 * time.Hour)
		v, _ := w.e.View(userA)
		if len(w.asked) > 0 || !v.Sources[0].GaveUp || v.Sources[0].Status != "not found" {
			t.Errorf("asked %d times after it was given up: %+v", len(w.asked), v.Sources[0])
		}
		w.up(0, SourceInfo{})
		if len(w.asked) != 1 {
			t.Error("not asked by the source's next life")
		}
	}
}

// No second sees more subscriptions than it may, whatever asks for them.
func TestSubscriptionsPerSecond(t *testing.T) {
	for _, rate := range []int{1, 15, 100, 1000} {
		w := newWatching(t, func(cfg *Config) { cfg.Sources[0].PerSecond = rate })
		w.up(0, SourceInfo{})
		people := rate*3 + 5
		for i := range people {
			w.e.Watch(Presentity(fmt.Sprintf("sip:u%d@example.com", i)), "x", 0)
		}
		w.take()
		var at []time.Duration // of each
		for w.now < 10*time.Second {
			n := len(w.asked)
			w.pass(wheelTick)
			for range w.asked[n:] {
				at = append(at, w.now)
			}
		}
		at = append(slices.Repeat([]time.Duration{0}, people-len(at)), at...)
		for i := range at {
			if i >= rate && at[i]-at[i-rate] < time.Second {
				t.Fatalf("%d within %v, at most %d in a second", rate+1, at[i]-at[i-rate], rate)
			}
		}
		if last := at[len(at)-1]; last > time.Duration(people/rate)*1200*time.Millisecond {
			t.Errorf("%d a second: %d took %v", rate, people, last)
		}
	}
}

// One subscription for each presentity and source, whoever asks; the last who asks ends it.
func TestOneSubscription(t *testing.T) {
	w := newWatching(t, nil)
	w.up(0, SourceInfo{})
	w.e.Watch(userA, "x", 0)
	w.e.Watch(userA, "y", 0)
	w.e.Watch(userA, "x", 0)
	w.pass(time.Second)
	if len(w.asked) != 1 {
		t.Fatalf("asked %d times", len(w.asked))
	}
	w.goes(0, userA, Subscribed)
	w.says(0, Statement{Presentity: userA, State: Busy})
	w.shows(0, Busy)
	w.e.Unwatch(userA, "x")
	w.take()
	w.shows(0, Busy)
	w.e.Unwatch(userA, "y")
	w.take()
	if len(w.asked) != 1 || len(w.asked[0].Unwatch) != 1 {
		t.Errorf("%+v", w.asked)
	}
	if _, found := w.e.View(userA); found {
		t.Error("somebody whom nobody asks for is remembered")
	}
	w.says(0, Statement{Presentity: userA, State: Busy}) // late
	if _, found := w.e.View(userA); found {
		t.Error("a claim about somebody whom nobody asks for")
	}
}

// Who asks for a while is forgotten after it, and who asks again in time is not.
func TestWatchForAWhile(t *testing.T) {
	w := newWatching(t, nil)
	w.up(0, SourceInfo{})
	w.e.Watch(userA, "x", time.Minute)
	w.pass(50 * time.Second)
	w.e.Watch(userA, "x", time.Minute)
	w.pass(50 * time.Second)
	if v, found := w.e.View(userA); !found || len(v.Watchers) != 1 {
		t.Fatalf("%+v", v)
	}
	w.says(0, Statement{Presentity: userA, State: Busy})
	w.shows(0, Busy)
	w.pass(11 * time.Second)
	w.shows(0, Unknown)
	if last := w.asked[len(w.asked)-1]; len(last.Unwatch) != 1 {
		t.Errorf("%+v", w.asked)
	}
	if _, found := w.e.View(userA); found {
		t.Error("somebody whom nobody asks for any more is remembered")
	}
}

// What the first endpoint is refused is tried by the next, at once and as one attempt.
func TestEndpointsOfASource(t *testing.T) {
	w := newWatching(t, nil)
	w.up(0, SourceInfo{Endpoints: 2})
	w.e.Watch(userA, "x", 0)
	w.take()
	for _, want := range []struct {
		endpoint int
		after    time.Duration
	}{{1, 0}, {0, 10 * time.Second}, {1, 0}, {0, 20 * time.Second}} {
		w.goes(0, userA, AccessDenied)
		if after := w.next(time.Minute); after.Round(time.Second) != want.after || w.asked[0].Watch[0].Endpoint != want.endpoint {
			t.Fatalf("after %v: %+v, want %+v", after, w.asked[0], want)
		}
	}
}

// A source without a connection uses up nobody's attempts; when it is back everybody is
// asked for anew. Now and then somebody is tried all the same.
func TestConnector(t *testing.T) {
	w := newWatching(t, nil)
	w.up(0, SourceInfo{})
	w.e.Watch(userA, "x", 0)
	w.take()
	w.report(0, SourceReport{Connector: ConnectionError, Reason: "no answer"})
	w.asked = nil
	for range 10 {
		w.goes(0, userA, SubscriptionError)
		if after := w.next(time.Minute); after < 20*time.Second {
			t.Fatalf("a source without a connection is asked after %v", after)
		}
	}
	v, _ := w.e.View(userA)
	if v.Sources[0].Failures != 0 {
		t.Errorf("%d failures are the presentity's", v.Sources[0].Failures)
	}
	w.asked = nil
	w.report(0, SourceReport{Connector: ConnectorUp})
	if len(w.asked) != 1 {
		t.Errorf("asked %d times when the connection is back", len(w.asked))
	}
	if !slices.Contains(w.statuses, "a : up and running -> connection error") || !slices.Contains(w.statuses, "a : connection error -> up and running") {
		t.Errorf("%q", w.statuses)
	}
}

// A subscription that ends is asked for again at once, its claim staying for the grace; one
// that is ended as soon as it is accepted, later and later.
func TestTerminated(t *testing.T) {
	w := newWatching(t, nil)
	w.up(0, SourceInfo{})
	w.e.Watch(userA, "x", 0)
	w.take()
	w.goes(0, userA, Subscribed)
	w.says(0, Statement{Presentity: userA, State: Busy})
	w.pass(time.Minute)
	w.goes(0, userA, Terminated)
	if after := w.next(time.Second); after != 0 {
		t.Errorf("asked again after %v", after)
	}
	w.pass(askTime + 29*time.Second) // for so long there may be an answer, and then the grace
	w.shows(0, Busy)
	w.pass(2 * time.Second)
	w.shows(0, Unknown)
	w.goes(0, userA, Subscribed)

	var total time.Duration
	for range 6 {
		w.goes(0, userA, Subscribed)
		w.goes(0, userA, Terminated)
		total += w.next(time.Minute)
	}
	if total < 20*time.Second {
		t.Errorf("a subscription that is ended at once was asked for 6 times in %v", total)
	}
}

// The claims of a source that is down stand for the grace, and no longer; those whose lamp is
// lit are asked for first when it is back.
func TestSourceDown(t *testing.T) {
	w := newWatching(t, nil)
	w.up(0, SourceInfo{})
	for i := range 40 {
		w.e.Watch(Presentity(fmt.Sprintf("sip:u%d@example.com", i)), "x", 0)
	}
	w.e.Watch(userA, "x", 0)
	w.pass(10 * time.Second)
	w.goes(0, userA, Subscribed)
	w.says(0, Statement{Presentity: userA, State: DoNotDisturb})
	w.report(0, SourceReport{Down: "killed"})
	w.pass(time.Second)
	w.shows(0, DoNotDisturb)
	w.asked = nil
	w.up(0, SourceInfo{})
	if len(w.asked) == 0 || w.asked[0].Watch[0].Presentity != userA {
		t.Errorf("not asked first for whom a lamp is lit: %+v", w.asked)
	}
	w.goes(0, userA, Subscribed) // and it says nothing more
	w.pass(29 * time.Second)
	w.shows(0, DoNotDisturb)
	w.pass(2 * time.Second)
	w.shows(0, Unknown)

	w.says(0, Statement{Presentity: userA, State: DoNotDisturb})
	w.report(0, SourceReport{Down: "killed, for good"})
	w.pass(31 * time.Second)
	w.shows(0, Unknown)
}

// What says nothing for itself is bounded: a statement without an end, a source that does not
// answer, numbers that go back, strangers.
func TestStatements(t *testing.T) {
	w := newWatching(t, nil)
	w.up(0, SourceInfo{})
	w.e.Watch(userA, "x", 0)
	w.take()
	w.pass(askTime + time.Second)
	if v, _ := w.e.View(userA); v.Sources[0].Status != "error" || v.Sources[0].Failures != 1 {
		t.Errorf("a source that does not answer: %+v", v.Sources[0])
	}
	w.says(0, Statement{Presentity: userA, State: Busy, Sequence: 5})
	w.says(0, Statement{Presentity: userA, State: Away, Sequence: 4})
	w.shows(0, Busy)
	w.says(0, Statement{Presentity: userB, State: Busy})
	if st := w.e.SourceStatuses()[0]; st.Stale != 1 || st.Ignored != 1 || st.Claims != 1 {
		t.Errorf("%+v", st)
	}
	w.pass(maxAge)
	w.shows(0, Unknown)
}

// A source that is pushed to speaks of whom it likes, if they are ours.
func TestUnasked(t *testing.T) {
	w := newWatching(t, nil)
	w.up(0, SourceInfo{Unasked: true, Serves: func(p Presentity) bool { return p != userB }})
	w.e.Watch(userB, "x", 0)
	w.says(0, Statement{Presentity: userA, State: Busy, For: time.Minute})
	w.says(0, Statement{Presentity: userB, State: Busy})
	w.says(0, Statement{Presentity: "sip:x@elsewhere.org", State: Busy})
	w.shows(0, Busy)
	if st := w.e.SourceStatuses()[0]; st.Claims != 1 || st.Ignored != 2 || len(w.asked) != 0 {
		t.Errorf("%+v, asked %v", st, w.asked)
	}
	w.pass(time.Minute + time.Second)
	w.shows(0, Unknown)
}

// A source that polls is asked for many at once, which counts as one.
func TestBatch(t *testing.T) {
	w := newWatching(t, func(cfg *Config) { cfg.Sources[0].PerSecond = 1 })
	for i := range 1300 {
		w.e.Watch(Presentity(fmt.Sprintf("sip:u%d@example.com", i)), "x", 0)
	}
	w.up(0, SourceInfo{Batch: 650})
	w.pass(2 * time.Second)
	if len(w.asked) != 2 || len(w.asked[0].Watch) != 650 || len(w.asked[1].Watch) != 650 {
		t.Errorf("%d requests", len(w.asked))
	}
}

// What a source reads at a server that we publish to is not published there, nor taken for
// its own word if it may be ours.
func TestNoEcho(t *testing.T) {
	w := newWatching(t, func(cfg *Config) { cfg.Sources[0].Reads = []string{"s"} })
	w.up(0, SourceInfo{})
	w.e.Watch(userA, "x", 0)
	w.take()
	w.goes(0, userA, Subscribed)

	w.says(0, Statement{Presentity: userA, State: Busy}) // another's word
	w.shows(0, Unknown)
	w.shows(1, Busy)
	w.says(0, Statement{Presentity: userA, State: Available})
	w.shows(1, Unknown)

	w.e.Calls(0, []CallEvent{{Dialog: DialogID{1, 1}, Stage: Confirmed, Caller: string(userA)}})
	w.take()
	w.shows(0, OnThePhone)
	w.says(0, Statement{Presentity: userA, State: OnThePhone}) // our own word
	w.e.Calls(0, []CallEvent{{Dialog: DialogID{1, 1}, Stage: Ended}})
	w.take()
	w.shows(0, Unknown)
	w.shows(1, Unknown) // and not busy for ever by what it was told
}
