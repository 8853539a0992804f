package main

import (
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/pidf"
	"github.com/busylamp/busylamp/plugin"
)

// TestTerminated: the reasons of RFC 6665 section 4.1.3.
func TestTerminated(t *testing.T) {
	for _, c := range []struct {
		reason string
		after  time.Duration
		state  plugin.SubscriptionState
		retry  time.Duration
		keeps  bool // what was said
	}{
		{"deactivated", 0, plugin.Terminated, 0, true},
		{"timeout", 0, plugin.Terminated, 0, true},
		{"probation", 0, plugin.Terminated, 30 * time.Second, true},
		{"probation", time.Minute, plugin.Terminated, time.Minute, true},
		{"giveup", 2 * time.Minute, plugin.Terminated, 2 * time.Minute, true},
		{"rejected", 0, plugin.AccessDenied, 0, false},
		{"noresource", 0, plugin.NotFound, 0, false},
		{"", 0, plugin.Terminated, 0, true},
		{"unheard-of", time.Second, plugin.Terminated, time.Second, true},
	} {
		p := newPlay(t, presence)
		p.up()
		p.voice.known = true
		r, st := p.notify("terminated", func(n *notification) { n.reason, n.retryAfter = c.reason, c.after })
		if r.code != 200 || st.told.state != c.state || st.told.retry != c.retry || p.phase != idle || p.voice.known != c.keeps {
			t.Errorf("%s: %+v %+v, known %v", c.reason, r, st, p.voice.known)
		}
		if c.keeps { // until the subscription would have ended
			if st := p.wait(); !st.voice || p.voice.known || p.now.Sub(p.freshAt) != time.Hour {
				t.Errorf("%s: %+v after %v", c.reason, st, p.now.Sub(p.freshAt))
			}
		}
		p = newPlay(t, presence)
		p.answer(p.sent(p.open(p.now)), 200)
		if _, st := p.notify("terminated", func(n *notification) { n.reason = c.reason }); st.told.state == plugin.Terminated || st.told.state == 0 {
			t.Errorf("%s at first: %+v", c.reason, st.told)
		}
	}
}

// TestInvariant: what will not change is kept until its end, and then asked for again.
func TestInvariant(t *testing.T) {
	p := newPlay(t, presence)
	p.up()
	end := p.expiry
	_, st := p.notify("terminated", func(n *notification) {
		n.reason, n.mime, n.document = "invariant", presence.mime, document{kind: ofPresence, seen: pidf.Seen{}}
	})
	p.expect(st, plugin.Active, "invariant")
	if !st.apply {
		t.Error("its last body is not taken")
	}
	p.expect(p.wait(), plugin.Terminated, "invariant")
	if !p.now.Equal(end) {
		t.Errorf("ended %v before its time", end.Sub(p.now))
	}
}

// TestNotifications: what a NOTIFY is answered.
func TestNotifications(t *testing.T) {
	p := newPlay(t, presence)
	p.up()
	p.cseq = 10
	body := func(k kind, bad error) func(*notification) {
		return func(n *notification) { n.mime, n.document.kind, n.bad = "x/y", k, bad }
	}
	if r, st := p.notify("active", body(ofPresence, nil)); r != replyOK || !st.apply {
		t.Errorf("%+v, %+v", r, st)
	}
	p.cseq = 10
	if r, st := p.notify("active", body(ofPresence, nil)); r != replyOK || st != (step{}) {
		t.Errorf("again: %+v, %+v", r, st)
	}
	p.cseq = 8
	if r, st := p.notify("active", body(ofPresence, nil)); r.code != 500 || st != (step{}) {
		t.Errorf("an older one: %+v, %+v", r, st)
	}
	p.cseq = 11
	if r, st := p.notify("active", body(unsupported, nil)); r.code != 415 || r.accept != presence.mime || st.apply {
		t.Errorf("of a type that is not supported: %+v, %+v", r, st)
	}
	if r, st := p.notify("active", body(ofDialogs, nil)); r.code != 415 || st.apply {
		t.Errorf("of another package's type: %+v, %+v", r, st)
	}
	if r, st := p.notify("active", body(ofPresence, errTest)); r.code != 400 || st.apply {
		t.Errorf("that cannot be read: %+v, %+v", r, st)
	}
	p.cseq--
	if r, _ := p.notify("active", body(ofPresence, nil)); r.code != 400 {
		t.Errorf("the same again: %+v", r)
	}
	if r, st := p.notify("active", func(n *notification) { n.fromTag = "n2" }); r.code != 481 || st != (step{}) {
		t.Errorf("from another fork: %+v, %+v", r, st)
	}
	if r, st := p.notify("active", func(n *notification) { n.pkg = dialogs }); r.code != 489 || st != (step{}) {
		t.Errorf("of another package: %+v, %+v", r, st)
	}
	if r, st := p.notify("pending"); r.code != 200 || st.told.state != plugin.Active || !strings.Contains(st.told.reason, "pending") {
		t.Errorf("pending: %+v, %+v", r, st)
	}
}

type testError string

func (e testError) Error() string { return string(e) }

const errTest = testError("test")

// TestShortened: the notifier shortens a subscription in a NOTIFY, and one before the 2xx
// counts more than that.
func TestShortened(t *testing.T) {
	expires := func(d time.Duration) func(*notification) { return func(n *notification) { n.expires = d } }
	p := newPlay(t, presence)
	p.up()
	p.notify("active", expires(time.Minute))
	if p.wind(); p.expiry.Sub(p.now) != time.Minute || p.voice.until != p.expiry || p.due.Sub(p.now) > 51*time.Second {
		t.Errorf("expires in %v, due in %v", p.expiry.Sub(p.now), p.due.Sub(p.now))
	}
	p = newPlay(t, presence)
	o := p.sent(p.open(p.now))
	p.notify("active", expires(time.Minute))
	p.answer(o, 200)
	if p.expiry.Sub(p.now) != time.Minute {
		t.Errorf("expires in %v", p.expiry.Sub(p.now))
	}
	p = newPlay(t, presence)
	o = p.sent(p.open(p.now))
	p.notify("active")
	p.answer(o, 200, func(a *answer) { a.expires = 2 * time.Minute })
	if p.expiry.Sub(p.now) != 2*time.Minute {
		t.Errorf("expires in %v", p.expiry.Sub(p.now))
	}
}

// TestFirstFork: of several answers to one SUBSCRIBE, the dialog is that of the first NOTIFY,
// with its own route set.
func TestFirstFork(t *testing.T) {
	p := newPlay(t, presence)
	p.answer(p.sent(p.open(p.now)), 200, func(a *answer) { a.tag, a.routes = "n2", []string{"<sip:two;lr>"} })
	if r, _ := p.notify("active", func(n *notification) { n.routes, n.contact = []string{"<sip:one;lr>"}, "sip:n1@one" }); r.code != 200 {
		t.Errorf("%+v", r)
	}
	if d := p.dialog; d.remote != "n1" || d.target != "sip:n1@one" || len(d.routes) != 1 || d.routes[0] != "<sip:one;lr>" {
		t.Errorf("%+v", d)
	}
	if r, _ := p.notify("active", func(n *notification) { n.fromTag = "n2" }); r.code != 481 {
		t.Errorf("the other: %+v", r)
	}
}
