package main

import (
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/pidf"
	"github.com/busylamp/busylamp/plugin"
)

// play is a subscription in a time of its own, without a network.
type play struct {
	*sub
	t    *testing.T
	now  time.Time
	cseq uint32 // of the notifier
}

func newPlay(t *testing.T, pkg *eventPackage) *play {
	p := &play{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	p.sub = &sub{pkg: pkg, uri: alice, wanted: time.Hour, timeN: 32 * time.Second, rand: func() float64 { return 0.5 }}
	return p
}

// sent expects that a step sends, and returns what.
func (p *play) sent(st step) outgoing {
	p.t.Helper()
	if !st.send {
		p.t.Fatalf("nothing is sent: %+v", st)
	}
	return p.next(p.now)
}

// answer gives the answer to what was sent.
func (p *play) answer(o outgoing, code int, change ...func(*answer)) step {
	a := answer{dialog: o.callID, code: code, reason: "because", cseq: o.cseq}
	if code == 200 {
		a.tag, a.contact, a.expires = "n1", "sip:n1@192.0.2.1", o.expires
	}
	for _, f := range change {
		f(&a)
	}
	return p.answered(p.now, a)
}

// notify gives the next NOTIFY.
func (p *play) notify(state string, change ...func(*notification)) (reply, step) {
	p.cseq++
	n := &notification{callID: p.dialog.callID, toTag: p.dialog.tag, fromTag: "n1", cseq: p.cseq, pkg: p.pkg, state: state, expires: -1}
	for _, f := range change {
		f(n)
	}
	return p.notified(p.now, n)
}

// up brings the subscription up.
func (p *play) up() {
	p.t.Helper()
	p.answer(p.sent(p.open(p.now)), 200)
	if r, st := p.notify("active"); r.code != 200 || st.told.state != plugin.Active {
		p.t.Fatalf("%+v, %+v", r, st)
	}
}

// wait lets the time pass to when the subscription is due.
func (p *play) wait() step {
	p.t.Helper()
	if p.wind(); p.due.IsZero() {
		p.t.Fatal("it is never due")
	}
	p.now = p.due
	return p.tick(p.now)
}

// told fails if a step tells another state.
func (p *play) expect(st step, state plugin.SubscriptionState, reason string) {
	p.t.Helper()
	if st.told.state != state || !strings.Contains(st.told.reason, reason) {
		p.t.Errorf("told %+v, want %d %q", st.told, state, reason)
	}
}

// TestRefresh: a subscription is refreshed well before its end, within the same dialog, at a
// time that chance spreads, again and again; and not before a NOTIFY is due is it in doubt.
func TestRefresh(t *testing.T) {
	p := newPlay(t, presence)
	p.up()
	began := p.now
	for i := range 5 {
		o := p.sent(p.wait())
		if after := p.now.Sub(began); after < 36*time.Minute || after > 52*time.Minute || o.remote != "n1" || o.target != "sip:n1@192.0.2.1" || o.expires != time.Hour {
			t.Errorf("after %v: %+v", after, o)
		}
		if o.cseq != uint32(i+2) {
			t.Errorf("CSeq %d", o.cseq)
		}
		p.now = p.now.Add(100 * time.Millisecond)
		if st := p.answer(o, 200); !st.voice || !p.voice.until.Equal(p.now.Add(time.Hour)) {
			t.Errorf("what is said does not go on: %+v", st)
		}
		p.notify("active")
		began = p.now
	}
	times := map[time.Duration]bool{}
	for i := range 10 {
		p := newPlay(t, presence)
		p.rand = func() float64 { return float64(i) / 10 }
		p.up()
		p.wind()
		times[p.due.Sub(p.now)] = true
	}
	if len(times) != 10 {
		t.Errorf("%d different times", len(times))
	}
}

// TestTimerN: what is accepted and brings no NOTIFY within 64*T1 has failed (RFC 6665 section
// 4.1.2.4); of a refresh, a new dialog takes the place of the old one, which is ended.
func TestTimerN(t *testing.T) {
	p := newPlay(t, presence)
	began := p.now
	p.answer(p.sent(p.open(p.now)), 200)
	st := p.wait()
	p.expect(st, plugin.Failed, "no NOTIFY within 32s")
	if p.now.Sub(began) != 32*time.Second || p.phase != idle {
		t.Errorf("after %v, %d", p.now.Sub(began), p.phase)
	}

	p = newPlay(t, presence)
	p.up()
	was := p.dialog.callID
	p.answer(p.sent(p.wait()), 200)
	st = p.wait()
	if o := p.sent(st); o.callID == was || o.remote != "" || st.told.state != 0 {
		t.Errorf("%+v", o)
	}
	if st.old == nil || st.old.dialog.callID != was || st.old.phase != ending {
		t.Errorf("the old dialog is left: %+v", st.old)
	}
}

// TestForgotten: a notifier that has forgotten us (481) is subscribed to anew at once, and what
// it has said goes on.
func TestForgotten(t *testing.T) {
	p := newPlay(t, presence)
	p.up()
	p.voice = voice{known: true, until: p.voice.until}
	was := p.dialog
	st := p.answer(p.sent(p.wait()), 481)
	o := p.sent(st)
	if o.callID == was.callID || o.tag == was.tag || o.remote != "" || o.cseq != 1 || st.told.state != 0 || st.old != nil || !p.voice.known {
		t.Errorf("%+v, %+v", o, st)
	}
	p.expect(p.answer(o, 481), plugin.Failed, "481")
}

// TestRefusedRefresh: what RFC 6665 section 4.1.2.2 names ends a subscription; anything else
// leaves it as good as it was until its end, and it is asked for again before.
func TestRefusedRefresh(t *testing.T) {
	for _, code := range []int{0, 403, 401, 408, 500, 503} {
		p := newPlay(t, presence)
		p.up()
		end := p.expiry
		tries := 0
		var st step
		for st = p.wait(); st.send; st = p.wait() {
			tries++
			p.answer(p.next(p.now), code)
		}
		if tries < 5 || tries > 20 || !p.now.Equal(end) {
			t.Errorf("%d: %d tries, ended %v before its time", code, tries, end.Sub(p.now))
		}
		p.expect(st, refusal(presence, answer{code: code}).state, "because")
	}
	for _, code := range []int{404, 410, 480, 489, 501, 604} {
		p := newPlay(t, presence)
		p.up()
		if st := p.answer(p.sent(p.wait()), code); st.told.state == 0 || p.phase != idle {
			t.Errorf("%d: %+v", code, st)
		}
	}
}

// TestRefusals: what an answer to the first SUBSCRIBE means.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		code   int
		state  plugin.SubscriptionState
		reason string
	}{
		{0, plugin.Failed, "because"}, {302, plugin.Failed, "configure it as server"},
		{401, plugin.AccessDenied, "401 because"}, {403, plugin.AccessDenied, "403"}, {407, plugin.AccessDenied, "407"}, {603, plugin.AccessDenied, "603"},
		{404, plugin.NotFound, "404"}, {410, plugin.NotFound, "410"}, {604, plugin.NotFound, "604"},
		{405, plugin.Failed, "does not support SUBSCRIBE"}, {406, plugin.Failed, "application/pidf+xml"}, {423, plugin.Failed, "Min-Expires"},
		{480, plugin.Failed, "480"}, {481, plugin.Failed, "481"}, {489, plugin.Failed, "does not support the event package presence"},
		{500, plugin.Failed, "500"}, {503, plugin.Failed, "503"},
	} {
		p := newPlay(t, presence)
		st := p.answer(p.sent(p.open(p.now)), c.code, func(a *answer) { a.retryAfter, a.contact = 7*time.Second, "sip:elsewhere" })
		p.expect(st, c.state, c.reason)
		if st.told.retry != 7*time.Second || p.phase != idle || st.send {
			t.Errorf("%d: %+v", c.code, st)
		}
	}
}

// TestTooBrief: Min-Expires is adopted, once.
func TestTooBrief(t *testing.T) {
	p := newPlay(t, presence)
	longer := func(a *answer) { a.minExpires = 2 * time.Hour }
	o := p.sent(p.answer(p.sent(p.open(p.now)), 423, longer))
	if o.expires != 2*time.Hour || o.cseq != 2 {
		t.Errorf("%+v", o)
	}
	p.expect(p.answer(o, 423, func(a *answer) { a.minExpires = 3 * time.Hour }), plugin.Failed, "423")
	p = newPlay(t, presence)
	p.expect(p.answer(p.sent(p.open(p.now)), 423, func(a *answer) { a.minExpires = 48 * time.Hour }), plugin.Failed, "423")
	p = newPlay(t, presence)
	p.up()
	if o := p.sent(p.answer(p.sent(p.wait()), 423, longer)); o.expires != 2*time.Hour || o.remote != "n1" {
		t.Errorf("%+v", o)
	}
}

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

// TestLeaving: wherever a subscription stands when it is wanted no more, its notifier hears so,
// once it can; and it is over.
func TestLeaving(t *testing.T) {
	bye := func(p *play, st step) {
		t.Helper()
		o := p.sent(st)
		if o.expires != 0 || o.remote != "n1" {
			t.Errorf("%+v", o)
		}
		if st := p.answer(o, 200); st.over {
			t.Error("over before the last NOTIFY")
		}
		if r, st := p.notify("terminated"); r.code != 200 || !st.over {
			t.Errorf("%+v, %+v", r, st)
		}
	}
	p := newPlay(t, presence)
	p.up()
	bye(p, p.close())

	p = newPlay(t, presence)
	o := p.sent(p.open(p.now))
	p.close()
	bye(p, p.answer(o, 200))

	p = newPlay(t, presence)
	o = p.sent(p.open(p.now))
	p.close()
	p.notify("active")
	bye(p, p.answer(o, 200))

	p = newPlay(t, presence)
	p.answer(p.sent(p.open(p.now)), 200)
	bye(p, p.close())

	p = newPlay(t, presence)
	p.up()
	o = p.sent(p.wait())
	p.close()
	bye(p, p.answer(o, 200))

	p = newPlay(t, presence)
	p.up()
	p.answer(p.sent(p.close()), 200)
	if st := p.wait(); !st.over {
		t.Errorf("no last NOTIFY: %+v", st)
	}

	p = newPlay(t, presence)
	o = p.sent(p.open(p.now))
	p.close()
	if st := p.answer(o, 404); !st.over {
		t.Errorf("%+v", st)
	}

	p = newPlay(t, presence)
	p.open(p.now)
	if p.close(); !p.skip() {
		t.Error("what was never sent is")
	}
}

// TestRenewPause: a dialog that makes no sense again and again is replaced every ten seconds.
func TestRenewPause(t *testing.T) {
	p := newPlay(t, dialogs)
	p.up()
	p.now = p.now.Add(time.Minute)
	fresh := 0
	for end := p.now.Add(time.Minute); p.now.Before(end); p.now = p.now.Add(time.Second) {
		st := p.renew(p.now, false)
		p.wind()
		if !st.send && !p.due.After(p.now) {
			st = p.tick(p.now)
		}
		if st.send {
			fresh++
			p.cseq = 0
			p.answer(p.next(p.now), 200)
			p.notify("active")
		}
	}
	if fresh != 6 { // the first at once
		t.Errorf("%d times in a minute", fresh)
	}
}
