package main

import (
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
	"github.com/busylamp/busylamp/plugin"
)

const alice = "sip:alice@example.com"

// TestWatch: a presentity is subscribed to, its state becomes a claim, a change another one;
// unwatched, the notifier is told so and nothing more is claimed. Over UDP and TCP.
func TestWatch(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			n := newNotifier(t, transport, serving)
			h, _ := start(t, to(n, "transport", transport, "expires", "600s"))
			h.connector(plugin.Up)
			h.watch(alice)
			h.sub(alice, plugin.Active)
			c := h.claim(alice, plugin.Available)
			if left := time.Until(c.Until); left < 590*time.Second || left > 600*time.Second+slack || time.Since(c.Since) > time.Minute {
				t.Errorf("until in %v, since %v", left, c.Since)
			}
			r := n.subscribed()
			for _, want := range []string{"SUBSCRIBE sip:alice@example.com SIP/2.0\r\n", "\r\nEvent: presence\r\n", "\r\nAccept: application/pidf+xml\r\n",
				"\r\nExpires: 600\r\n", "\r\nTo: <sip:alice@example.com>\r\n", "\r\nFrom: <sip:busylamp@example.com>;tag=", "\r\nContact: <sip:busylamp@127.0.0.1:"} {
				if !strings.Contains(r.Raw, want) {
					t.Errorf("no %q in\n%s", want, r.Raw)
				}
			}
			d := n.find(alice)
			if a := d.notify("active;expires=500", onPhone(alice)); a != "SIP/2.0 200 OK" {
				t.Errorf("%s", a)
			}
			c = h.claim(alice, plugin.Busy)
			if c.Activity != plugin.OnThePhone || c.Telephony || c.Note != "On the phone" || time.Until(c.Until) > 500*time.Second+slack {
				t.Errorf("%+v", c)
			}
			h.unwatch(alice)
			if r := n.subscribed(); r.Header("Expires") != "0" || !strings.HasPrefix(r.Raw, "SUBSCRIBE sip:notifier@") || !strings.Contains(r.Header("To"), ";tag="+d.tag) {
				t.Errorf("%s", r.Raw)
			}
			h.quiet()
			if a := d.notify("terminated;reason=timeout", onPhone(alice)); a != "SIP/2.0 481 Subscription does not exist" {
				t.Errorf("a NOTIFY after the end: %s", a)
			}
		})
	}
}

// TestNotifyFirst: the NOTIFY may come before the answer to its SUBSCRIBE (RFC 6665 section
// 4.1.2.4), and what it said of the dialog goes on afterwards.
func TestNotifyFirst(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", func(d *told, r siptest.Request) {
		if d.requests == 1 {
			d.send(d.notice("active;expires=1000", onPhone(d.who)))
			time.Sleep(50 * time.Millisecond)
		}
		d.ok(r)
	})
	h, _ := start(t, to(n))
	h.watch(alice)
	h.sub(alice, plugin.Active)
	if c := h.claim(alice, plugin.Busy); time.Until(c.Until) > 1000*time.Second+slack {
		t.Errorf("until %v", c.Until)
	}
	n.subscribed()
	h.watch(alice) // asked anew: a refresh within the dialog
	if r := n.subscribed(); !strings.Contains(r.Header("To"), ";tag=n1") || !strings.HasPrefix(r.Header("CSeq"), "2 ") {
		t.Errorf("%s", r.Raw)
	}
}
