package main

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/pidf"
	"github.com/busylamp/busylamp/plugin"
	"github.com/busylamp/busylamp/plugin/plugintest"
)

// fakeHost is a host that a source runs under.
type fakeHost struct {
	t             testing.TB
	requests      chan plugin.Request
	claims        chan plugin.Claim
	subscriptions chan plugin.Subscription
	connectors    chan plugin.Connector
}

func (h *fakeHost) Requests() <-chan plugin.Request { return h.requests }
func (h *fakeHost) Claim(cs ...plugin.Claim) {
	for _, c := range cs {
		h.claims <- c
	}
}
func (h *fakeHost) Subscription(ss ...plugin.Subscription) {
	for _, s := range ss {
		h.subscriptions <- s
	}
}
func (h *fakeHost) Connector(c plugin.Connector) { h.connectors <- c }

// start runs a source with a configuration until the test ends, or stop is called. room is for
// how many words the test need not listen at once.
func start(t testing.TB, config map[string]any, room ...int) (h *fakeHost, stop func()) {
	t.Helper()
	s := newSource()
	if err := plugintest.Configure(t, s, config); err != nil {
		t.Fatal(err)
	}
	s.cfg.own = pidf.Own([]string{"busylamp"})
	n := 5000
	if len(room) > 0 {
		n = room[0]
	}
	h = &fakeHost{t: t, requests: make(chan plugin.Request), claims: make(chan plugin.Claim, n),
		subscriptions: make(chan plugin.Subscription, n), connectors: make(chan plugin.Connector, 1000)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, h) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return h, stop
}

// to is a configuration for a notifier.
func to(n *notifier, more ...any) map[string]any {
	c := map[string]any{"server": n.Addr(), "uri": "sip:busylamp@example.com"}
	for i := 0; i < len(more); i += 2 {
		c[more[i].(string)] = more[i+1]
	}
	return c
}

func (h *fakeHost) watch(who ...string) {
	h.t.Helper()
	for _, w := range who {
		h.ask(plugin.Request{Watch: []plugin.Target{{Presentity: w}}})
	}
}

func (h *fakeHost) unwatch(who ...string) { h.t.Helper(); h.ask(plugin.Request{Unwatch: who}) }

func (h *fakeHost) ask(r plugin.Request) {
	h.t.Helper()
	select {
	case h.requests <- r:
	case <-time.After(patience):
		h.t.Fatal("the source takes no request")
	}
}

// sub waits for a state of somebody's subscription, and returns it; others are passed over.
func (h *fakeHost) sub(who string, state plugin.SubscriptionState) plugin.Subscription {
	h.t.Helper()
	late := time.After(patience)
	var last []plugin.Subscription
	for {
		select {
		case s := <-h.subscriptions:
			if s.Presentity == who && s.State == state {
				return s
			}
			last = append(last, s)
		case <-late:
			h.t.Fatalf("%s is not in state %d; before: %+v", who, state, last)
		}
	}
}

// active waits until so many subscriptions have become active.
func (h *fakeHost) active(n int) {
	h.t.Helper()
	late := time.After(patience)
	for seen := map[string]bool{}; len(seen) < n; {
		select {
		case s := <-h.subscriptions:
			switch s.State {
			case plugin.Active:
				seen[s.Presentity] = true
			case plugin.Requesting:
			default:
				h.t.Fatalf("%+v", s)
			}
		case <-late:
			h.t.Fatalf("%d of %d are active", len(seen), n)
		}
	}
}

// claim waits for a claim about somebody with an availability; others are passed over.
func (h *fakeHost) claim(who string, a plugin.Availability) plugin.Claim {
	h.t.Helper()
	late := time.After(patience)
	var last []plugin.Claim
	for {
		select {
		case c := <-h.claims:
			if c.Presentity == who && c.Availability == a {
				return c
			}
			last = append(last, c)
		case <-late:
			h.t.Fatalf("no claim that %s is %d; before: %+v", who, a, last)
		}
	}
}

// connector waits for a state of the connector; others are passed over.
func (h *fakeHost) connector(state plugin.ConnectorState) plugin.Connector {
	h.t.Helper()
	late := time.After(patience)
	var last []plugin.Connector
	for {
		select {
		case c := <-h.connectors:
			if c.State == state {
				return c
			}
			last = append(last, c)
		case <-late:
			h.t.Fatalf("the connector is not in state %d; before: %+v", state, last)
		}
	}
}

// quiet fails if there is a claim.
func (h *fakeHost) quiet() {
	h.t.Helper()
	select {
	case c := <-h.claims:
		h.t.Errorf("a claim: %+v", c)
	case <-time.After(100 * time.Millisecond):
	}
}
