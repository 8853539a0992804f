package main

import (
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/dialoginfo"
	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
	"github.com/busylamp/busylamp/plugin"
)

// TestEmptyBody: an active subscription's NOTIFY without a body withdraws what was said, and only
// that one's does; the subscription goes on.
func TestEmptyBody(t *testing.T) {
	for _, c := range []struct {
		state string
		keeps bool
	}{{"active", false}, {"pending", true}, {"terminated", true}} {
		for _, pkg := range []*eventPackage{presence, dialogs} {
			p := newPlay(t, pkg)
			p.up()
			p.voice.known, p.table = true, &dialoginfo.Table{}
			until := p.voice.until
			_, st := p.notify(c.state)
			if p.voice.known != c.keeps || (p.table != nil) != c.keeps || !p.voice.until.Equal(until) || st.voice == c.keeps && c.state == "active" {
				t.Errorf("%s, %s: %+v, %+v", pkg.name, c.state, p.hearing, st)
			}
		}
	}
}

// TestEmptyBodyWithdraws: what Kamailio sends when a publication lapses, and after it has been
// restarted, takes the claim away; the next document makes another one.
func TestEmptyBodyWithdraws(t *testing.T) {
	t.Parallel()
	for _, event := range []string{"presence", "dialog"} {
		n := newNotifier(t, "udp", func(d *told, r siptest.Request) {
			switch {
			case d.tag != "n1": // it has forgotten the publications
				d.ok(r)
				d.send(d.notice(active1h, ""))
			case d.requests > 1:
				d.answer(r, "481 Subscription does not exist")
			default:
				serving(d, r)
			}
		})
		busy := onPhone(alice)
		if event == "dialog" {
			busy = calls(alice, "7", "full", "confirmed")
		}
		h, stop := start(t, to(n, "event", event))
		h.watch(alice)
		h.claim(alice, plugin.Available)
		d := n.find(alice)
		for range 2 {
			d.notify(active1h, busy)
			h.claim(alice, plugin.Busy)
			d.notify(active1h, "")
			h.claim(alice, plugin.Unknown)
		}
		d.notify(active1h, busy)
		h.claim(alice, plugin.Busy)
		h.watch(alice) // the refresh is answered 481, and a new dialog begins
		h.claim(alice, plugin.Unknown)
		stop()
	}
}

// TestEndedBeside: of two packages, the one that has ended counts for half a minute more, and
// then the other one is heard.
func TestEndedBeside(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", func(d *told, r siptest.Request) {
		d.ok(r)
		body := open(d.who)
		if d.event == "dialog" {
			body = calls(d.who, "1", "full", "confirmed")
		}
		d.send(d.notice(active1h, body))
	})
	h, _ := start(t, to(n, "event", "both"))
	h.watch(alice)
	if c := h.claim(alice, plugin.Busy); time.Until(c.Until) < 30*time.Minute {
		t.Errorf("%+v", c)
	}
	d := n.of(alice, "dialog")
	n.of(alice, "presence") // it is there, too
	d.notify("terminated;reason=giveup;retry-after=600", "")
	if c := h.claim(alice, plugin.Busy); time.Until(c.Until) > graceBeside+slack {
		t.Errorf("it lasts for %v", time.Until(c.Until))
	}

	p := newPlay(t, dialogs) // and then:
	p.up()
	p.voice.known = true
	p.notify("terminated")
	p.voice.until = p.now.Add(graceBeside)
	if st := p.wait(); !st.voice || p.voice.known {
		t.Errorf("%+v", st)
	}
	p = newPlay(t, dialogs) // or while a SUBSCRIBE is out that nobody answers
	p.up()
	p.voice.known = true
	p.renew(p.now, true)
	p.voice.until = p.now.Add(graceBeside)
	if st := p.wait(); !st.voice || p.voice.known || p.phase != opening {
		t.Errorf("%+v", st)
	}
}

// of returns the dialog about somebody by a package, when it is there.
func (n *notifier) of(who, event string) *told {
	n.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		n.mu.Lock()
		for _, d := range n.dialogs {
			if d.who == who && d.event == event && d.cseq > 0 {
				n.mu.Unlock()
				return d
			}
		}
		n.mu.Unlock()
	}
	n.t.Fatalf("nobody has subscribed to %s by %s", who, event)
	return nil
}
