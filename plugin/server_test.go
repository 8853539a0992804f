package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/busylamp/busylamp/plugin"
	"github.com/busylamp/busylamp/plugin/plugintest"
)

// scripted is a source whose Run is the test's.
type scripted struct {
	about     plugin.Description
	configure func(plugin.Config) error
	run       func(context.Context, plugin.Host) error
}

func (s *scripted) Describe() plugin.Description {
	d := s.about
	d.Name, d.Version = "scripted", "1"
	return d
}

func (s *scripted) Configure(c plugin.Config) error {
	if s.configure == nil {
		return nil
	}
	return s.configure(c)
}

func (s *scripted) Run(ctx context.Context, h plugin.Host) error { return s.run(ctx, h) }

func (s *scripted) Endpoints() []string { return []string{"app", "user"} }

const alice = "sip:alice@example.com"

// TestWatchAndClaim takes a watch to the source and its words back, each field of them.
func TestWatchAndClaim(t *testing.T) {
	defer goleak.VerifyNone(t)
	since := time.Now().Add(-time.Minute).UTC().Truncate(time.Second)
	want := plugin.Claim{
		Presentity: alice, Availability: plugin.Busy, Activity: plugin.Meeting, Note: "till four", Device: "desk",
		OutOfOffice: true, Forward: plugin.ToNumber, ForwardedTo: "tel:+31", Since: since,
		Until: since.Add(time.Hour), Sequence: 7, Telephony: true,
	}
	got := make(chan plugin.Request, 1)
	h := plugintest.Start(t, &scripted{run: func(ctx context.Context, h plugin.Host) error {
		h.Connector(plugin.Connector{State: plugin.Forbidden, Reason: "no"})
		got <- <-h.Requests()
		h.Subscription(plugin.Subscription{Presentity: alice, State: plugin.AccessDenied, Reason: "r", RetryAfter: time.Second})
		h.Claim(want)
		if _, open := <-h.Requests(); open {
			return errors.New("a request came from nowhere")
		}
		if ctx.Err() == nil {
			return errors.New("requests were closed before ctx ended")
		}
		h.Claim(want) // does nothing, and does not block
		return ctx.Err()
	}}, nil)
	defer func() { _ = h.Stop() }()
	h.WatchTargets(plugin.Target{Presentity: alice, Endpoint: 1, UPN: "alice@corp"}, plugin.Target{Presentity: "sip:b@x", Endpoint: 9})
	if r := <-got; len(r.Watch) != 2 || r.Watch[0] != (plugin.Target{Presentity: alice, Endpoint: 1, UPN: "alice@corp"}) || r.Watch[1].Endpoint != 0 {
		t.Errorf("request: %+v", r)
	}
	if c := h.NextConnector(); c != (plugin.Connector{State: plugin.Forbidden, Reason: "no"}) {
		t.Errorf("connector: %+v", c)
	}
	if s := h.NextSubscription(); s != (plugin.Subscription{Presentity: alice, State: plugin.AccessDenied, Reason: "r", RetryAfter: time.Second}) {
		t.Errorf("subscription: %+v", s)
	}
	if c := h.NextClaim(); c != want {
		t.Errorf("claim: %+v", c)
	}
	if len(h.Endpoints) != 2 {
		t.Errorf("endpoints: %q", h.Endpoints)
	}
	if err := h.Stop(); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

// logged is what slog has written since the call, by the SDK's own handler.
func logged(t *testing.T) func() string {
	t.Helper()
	before := slog.Default()
	var w writer
	slog.SetDefault(slog.New(slog.NewTextHandler(&w, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return w.String
}

type writer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *writer) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// TestMistakes shows that what an author states wrongly is logged and never told.
func TestMistakes(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		claim plugin.Claim
		log   string
	}{
		"nobody":       {plugin.Claim{Availability: plugin.Busy}, "field=Presentity"},
		"no UTF-8":     {plugin.Claim{Presentity: "sip:\xff@example.com"}, "field=Presentity"},
		"too long":     {plugin.Claim{Presentity: "sip:" + strings.Repeat("a", 2000) + "@example.com"}, "field=Presentity"},
		"unserved":     {plugin.Claim{Presentity: "tel:+1"}, "Serves leaves out"},
		"unwatched":    {plugin.Claim{Presentity: "sip:bob@example.com"}, "not watched"},
		"availability": {plugin.Claim{Presentity: alice, Availability: 6}, "presentity=sip:alice@example.com field=Availability"},
		"forward":      {plugin.Claim{Presentity: alice, Forward: 3}, "field=Forward"},
		"until":        {plugin.Claim{Presentity: alice, Since: now, Until: now.Add(-time.Second)}, "before Since"},
		"year":         {plugin.Claim{Presentity: alice, Until: now.AddDate(20000, 0, 0)}, "field=Until"},
	} {
		t.Run(name, func(t *testing.T) {
			log := logged(t)
			h := plugintest.Start(t, &scripted{
				about: plugin.Description{Serves: []string{"sip:.*@example.com"}},
				run: func(ctx context.Context, h plugin.Host) error {
					<-h.Requests()
					h.Claim(c.claim, plugin.Claim{Presentity: alice, Availability: plugin.Away})
					h.Subscription(plugin.Subscription{Presentity: alice}, plugin.Subscription{Presentity: alice, State: plugin.Active, RetryAfter: -1})
					h.Connector(plugin.Connector{})
					<-ctx.Done()
					return nil
				},
			}, nil)
			h.Watch(alice)
			if got := h.NextClaim(); got.Presentity != alice || got.Availability != plugin.Away {
				t.Errorf("told: %+v", got)
			}
			if err := h.Stop(); err != nil {
				t.Error(err)
			}
			for _, want := range []string{c.log, "field=State", "field=RetryAfter", "connector's state"} {
				if !strings.Contains(log(), want) {
					t.Errorf("%q is not in the log: %s", want, log())
				}
			}
		})
	}
}

// TestCut shows that texts are cut at a rune's edge, that no text can break the stream, and
// that no claim outlives a day.
func TestCut(t *testing.T) {
	h := plugintest.Start(t, &scripted{about: plugin.Description{Unasked: true}, run: func(ctx context.Context, h plugin.Host) error {
		h.Claim(plugin.Claim{
			Presentity: alice, Availability: plugin.Busy, Note: "x" + strings.Repeat("é", 1000), Device: "\xff",
			Until: time.Now().AddDate(1, 0, 0),
		})
		<-ctx.Done()
		return nil
	}}, nil)
	c := h.NextClaim()
	if len(c.Note) != 255 || strings.ContainsRune(c.Note, '\uFFFD') || c.Device != "\uFFFD" {
		t.Errorf("note of %d bytes, device %q", len(c.Note), c.Device)
	}
	if left := time.Until(c.Until); left > 24*time.Hour || left < 23*time.Hour {
		t.Errorf("until in %s", left)
	}
}

// TestOrder shows that 10,000 claims in one call arrive, in messages that fit, and that what
// is said one after the other arrives in that order.
func TestOrder(t *testing.T) {
	const n = 10_000
	h := plugintest.Start(t, &scripted{about: plugin.Description{Unasked: true}, run: func(ctx context.Context, h plugin.Host) error {
		many := make([]plugin.Claim, n)
		for i := range many {
			many[i] = plugin.Claim{
				Presentity: alice, Availability: plugin.Busy, Sequence: uint64(i + 1),
				Note: strings.Repeat("n", 1000), Device: strings.Repeat("d", 1000), ForwardedTo: strings.Repeat("f", 1000), Forward: plugin.ToNumber,
			}
		}
		h.Claim(many...)
		for i := range 100 {
			h.Claim(plugin.Claim{Presentity: alice, Availability: plugin.Away, Sequence: uint64(n + i + 1)})
		}
		<-ctx.Done()
		return nil
	}}, nil)
	for i := range n + 100 {
		if c := h.NextClaim(); c.Sequence != uint64(i+1) {
			t.Fatalf("claim %d is number %d", i, c.Sequence)
		}
	}
}

// TestUnwatched shows that nothing is said of who is watched no more, and that a stranger's
// unwatch does not reach the source.
func TestUnwatched(t *testing.T) {
	requests := make(chan plugin.Request, 4)
	h := plugintest.Start(t, &scripted{run: func(ctx context.Context, h plugin.Host) error {
		for r := range h.Requests() {
			h.Claim(plugin.Claim{Presentity: alice, Availability: plugin.Busy})
			requests <- r
		}
		return nil
	}}, nil)
	h.Watch(alice)
	h.NextClaim()
	h.Unwatch("sip:stranger@example.com", alice)
	<-requests
	if r := <-requests; len(r.Unwatch) != 1 || r.Unwatch[0] != alice {
		t.Errorf("request: %+v", r)
	}
	h.Quiet(50 * time.Millisecond)
}

// TestUnserved shows that a presentity that the source does not serve is refused for it.
func TestUnserved(t *testing.T) {
	h := plugintest.Start(t, &scripted{about: plugin.Description{Serves: []string{"sip:.*"}}, run: func(ctx context.Context, h plugin.Host) error {
		if r, open := <-h.Requests(); open {
			return fmt.Errorf("%+v was asked", r)
		}
		return nil
	}}, nil)
	h.Watch("tel:+31612345678")
	if s := h.NextSubscription(); s.State != plugin.NotFound || s.Presentity != "tel:+31612345678" {
		t.Errorf("subscription: %+v", s)
	}
	if err := h.Stop(); err != nil {
		t.Error(err)
	}
}

// TestRunEnds shows how each end of Run reaches the host.
func TestRunEnds(t *testing.T) {
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	for name, c := range map[string]struct {
		run  func(context.Context, plugin.Host) error
		want string
	}{
		"error": {func(context.Context, plugin.Host) error { return errors.New("no luck") }, "no luck"},
		"panic": {func(context.Context, plugin.Host) error { panic("oh") }, "Run panicked: oh"},
		"early": {func(context.Context, plugin.Host) error { return nil }, "Run returned before its ctx ended"},
		"well":  {func(ctx context.Context, _ plugin.Host) error { <-ctx.Done(); return nil }, ""},
		"ctx":   {func(ctx context.Context, _ plugin.Host) error { <-ctx.Done(); return ctx.Err() }, ""},
		"late":  {func(context.Context, plugin.Host) error { <-never; return nil }, "has not returned within 1.5s"},
		"badly": {func(ctx context.Context, _ plugin.Host) error { <-ctx.Done(); return errors.New("no luck") }, "no luck"},
		"speaks": {func(_ context.Context, h plugin.Host) error {
			h.Connector(plugin.Connector{State: plugin.Up})
			return errors.New("x")
		}, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := plugintest.Start(t, &scripted{run: c.run}, nil)
			if name == "speaks" { // what was said last arrives
				h.NextConnector()
			}
			if name == "early" {
				<-h.Done()
			}
			err := h.Stop()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("Run ended with %v, want %q", err, c.want)
			}
		})
	}
}

// TestConfigure shows how problems reach the host, however they are wrapped and joined.
func TestConfigure(t *testing.T) {
	err := plugintest.Configure(t, &scripted{configure: func(c plugin.Config) error {
		if c.Name != "test" {
			return fmt.Errorf("name is %q", c.Name)
		}
		return errors.Join(plugin.Errorf("a.b", "is %d, which must be 2", 1), fmt.Errorf("at the server: %w", plugin.Errorf("c", "is odd")), errors.New("and more"))
	}}, nil)
	if err == nil || err.Error() != "a.b: is 1, which must be 2\nc: is odd\n: and more" {
		t.Errorf("problems: %v", err)
	}
}
