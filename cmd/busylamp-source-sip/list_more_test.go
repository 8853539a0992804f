package main

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
	"github.com/busylamp/busylamp/plugin"
)

// TestListKnowsNothingYet: a full document whose resources have no instances, which is how
// Kamailio's rls answers a fresh SUBSCRIBE, leaves what was said as it was until its end, and a
// member's own subscription in peace until the list speaks of him.
func TestListKnowsNothingYet(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", func(d *told, r siptest.Request) {
		switch {
		case d.who != team:
			serving(d, r)
		case d.tag == "n1" && d.requests > 1:
			d.answer(r, "481 Subscription does not exist")
		case d.tag == "n1":
			d.ok(r)
			d.send(d.notice("active;expires=10", rlmiBody(0, true, [3]string{alice, "active", onPhone(alice)}), listType))
		default:
			d.ok(r)
			d.send(d.notice("active;expires=7200", rlmiBody(0, true, [3]string{alice, "", ""}, [3]string{bob, "", ""}), listType))
		}
	})
	h, _ := start(t, to(n, "lists", []string{team}, "expires", "10s"))
	h.watch(alice)
	first := h.claim(alice, plugin.Busy)
	h.watch(bob)
	h.claim(bob, plugin.Available)
	again := n.find(team)
	for again.tag == "n1" { // the list's refresh is due after 6 s
		n.subscribed()
		again = n.find(team)
	}
	dark := rlmiBody(0, true, [3]string{alice, "", ""}, [3]string{bob, "", ""})
	again.notify("active;expires=7200", dark, listType)
	for len(h.claims) > 0 {
		<-h.claims
	}
	h.watch(alice)
	if c := h.claim(alice, plugin.Busy); c.Until.Sub(first.Until).Abs() > 2*time.Second {
		t.Errorf("until %v, and before until %v", c.Until, first.Until)
	}
	n.find(bob).notify(active1h, onPhone(bob)) // by his own
	h.claim(bob, plugin.Busy)
	h.watch(bob) // which is refreshed
	h.claim(bob, plugin.Available)
	again.notify(active1h, rlmiBody(1, false, [3]string{bob, "active", onPhone(bob)}), listType)
	h.claim(bob, plugin.Busy)
	for h.sub(bob, plugin.Active).Reason == "" { // now the list's
	}
}

// TestListFalls: what is not prolonged ends by itself, by the list's own timer.
func TestListFalls(t *testing.T) {
	p := newPlay(t, presence)
	p.up()
	p.list = true
	i := &instance{heard: true, hearing: hearing{voice: voice{known: true, until: p.expiry}}}
	m := &member{instances: map[string]*instance{"i": i, "j": {}}}
	m.fall()
	if len(m.instances) != 1 || !i.stale || !m.speaks() {
		t.Errorf("%+v", m.instances)
	}
	if i.lasts(p.now, p.expiry.Add(time.Hour)) || !i.voice.until.Equal(p.expiry) {
		t.Errorf("until %v", i.voice.until)
	}
	if !i.lasts(p.expiry.Add(slack), p.expiry.Add(time.Hour)) || i.voice.known {
		t.Errorf("%+v", i.voice)
	}
}

// TestNoList: those who wait for a list that is none are let go: because the first NOTIFY has no
// body, or one that is not understood, or no active one comes.
func TestNoList(t *testing.T) {
	t.Parallel()
	for what, notice := range map[string]func(*told) string{
		"no body":        func(d *told) string { return d.notice(active1h, "") },
		"another type":   func(d *told) string { return d.notice(active1h, "x", "Content-Type: text/plain") },
		"no multipart":   func(d *told) string { return d.notice(active1h, "x", listType) },
		"a presentity's": func(d *told) string { return d.notice(active1h, open(team)) },
		"pending":        func(d *told) string { return d.notice("pending;expires=3600", "") },
		"only a part": func(d *told) string {
			return d.notice(active1h, rlmiBody(7, false, [3]string{alice, "active", open(alice)}), listType)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			hold := make(chan struct{}) // until alice waits
			n := newNotifier(t, "udp", func(d *told, r siptest.Request) {
				if d.who != team {
					serving(d, r)
					return
				}
				go func() {
					<-hold
					d.ok(r)
					d.send(notice(d))
				}()
			})
			timeout := "32s"
			if what == "pending" || what == "only a part" {
				timeout = "2s"
			}
			h, _ := start(t, to(n, "lists", []string{team}, "timeout", timeout))
			h.watch(alice)
			close(hold)
			if s := h.sub(alice, plugin.Terminated); s.Reason != "no member of a list" {
				t.Errorf("%+v", s)
			}
			h.watch(alice)
			h.claim(alice, plugin.Available)
		})
	}
}

// TestSettlePace: those who are no members are subscribed to when the host asks again, and not
// before; beside a package whose list serves them, at a pace of our own.
func TestSettlePace(t *testing.T) {
	t.Parallel()
	const many = 40
	var single atomic.Int32
	hold := make(chan struct{}) // until everybody waits
	n := newNotifier(t, "udp", func(d *told, r siptest.Request) {
		if d.who != team {
			single.Add(1)
			serving(d, r)
			return
		}
		go func() {
			<-hold
			if d.event == "dialog" {
				d.answer(r, "404 Not Found")
				return
			}
			d.ok(r)
			d.send(d.notice(active1h, rlmiBody(0, true, [3]string{alice, "active", open(alice)}), listType))
		}()
	})
	h, _ := start(t, to(n, "lists", []string{team}, "event", "both"))
	for i := range many {
		h.watch(fmt.Sprintf("sip:u%d@example.com", i))
	}
	h.watch(alice)
	close(hold)
	left, late := map[string]bool{}, time.After(patience)
	for served := false; len(left) < many || !served; {
		select {
		case s := <-h.subscriptions:
			switch {
			case s.State == plugin.Terminated && s.Presentity != alice:
				left[s.Presentity] = true
			case s.State == plugin.Active && s.Presentity == alice && strings.Contains(s.Reason, team):
				served = true
			case s.State != plugin.Requesting:
				t.Fatalf("%+v", s)
			}
		case <-late:
			t.Fatalf("%d of %d are left, alice served %v", len(left), many, served)
		}
	}
	n.of(alice, "dialog") // within (many+1)/15 s
	if k := single.Load(); k != 1 {
		t.Errorf("%d have been subscribed to before the host has asked again", k)
	}
	one := "sip:u0@example.com"
	h.watch(one)
	h.sub(one, plugin.Active)
	n.of(one, "presence")
	n.of(one, "dialog")
}
