package main

import (
	"strings"
	"testing"
	"time"

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
	p.sent(p.open(p.now))
	p.close()
	if _, st := p.notify("terminated"); !st.over || st.told.state != 0 {
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

// TestOvertaken: the first answer is older than a NOTIFY that has overtaken it, and does not
// take back where the notifier is; the answer to a refresh moves it.
func TestOvertaken(t *testing.T) {
	p := newPlay(t, presence)
	first := p.sent(p.open(p.now))
	p.notify("active", func(n *notification) { n.contact = "sip:n2@192.0.2.2" })
	p.answer(first, 200)
	if p.dialog.target != "sip:n2@192.0.2.2" {
		t.Errorf("%s after the first answer", p.dialog.target)
	}
	p.answer(p.sent(p.wait()), 200)
	if p.dialog.target != "sip:n1@192.0.2.1" {
		t.Errorf("%s after a refresh", p.dialog.target)
	}
}
