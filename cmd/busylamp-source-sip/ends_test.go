package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/pidf"
	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
	"github.com/busylamp/busylamp/plugin"
)

// meeting is a presence document with an activity between two times; a zero one is left out.
func meeting(who string, from, until time.Time) string {
	at := func(name string, t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return fmt.Sprintf(` %s="%s"`, name, t.UTC().Format(time.RFC3339Nano))
	}
	return `<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid" entity="` + who +
		`"><tuple id="t1"><status><basic>open</basic></status></tuple><dm:person id="p"><rpid:activities` + at("from", from) + at("until", until) +
		`><rpid:meeting/></rpid:activities></dm:person></presence>`
}

// TestActivityEnds: an activity begins and ends when the document says so, without another
// NOTIFY, and a claim never outlives it: of a presentity and of a list's member.
func TestActivityEnds(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", func(d *told, r siptest.Request) {
		d.ok(r)
		if d.who == team {
			d.send(d.notice(active1h, rlmiBody(0, true, [3]string{bob, "active", open(bob)}), listType))
			return
		}
		d.send(d.notice(active1h, open(d.who)))
	})
	h, _ := start(t, to(n, "lists", []string{team}))
	h.watch(bob)
	h.claim(bob, plugin.Available)
	h.watch(alice)
	h.claim(alice, plugin.Available)

	from, until := time.Now().Add(700*time.Millisecond), time.Now().Add(1500*time.Millisecond)
	for _, who := range []string{alice, bob} {
		if who == alice {
			n.find(alice).notify(active1h, meeting(alice, from, until))
		} else {
			from, until = time.Now().Add(700*time.Millisecond), time.Now().Add(1500*time.Millisecond)
			n.find(team).notify(active1h, rlmiBody(1, false, [3]string{bob, "active", meeting(bob, from, until)}), listType)
		}
		c := h.claim(who, plugin.Busy)
		if now := time.Now(); c.Activity != plugin.Meeting || now.Before(from) || c.Until.Sub(until).Abs() > time.Millisecond {
			t.Errorf("%v before it begins, %v after it ends: %+v", from.Sub(now), c.Until.Sub(until), c)
		}
		if c := h.claim(who, plugin.Available); time.Now().Before(until) || time.Until(c.Until) < 30*time.Minute {
			t.Errorf("%v before its end: %+v", time.Until(until), c)
		}
	}
}

// TestActivityReview: a document is looked at again at each of its times, and kept no longer.
func TestActivityReview(t *testing.T) {
	p := newPlay(t, presence)
	p.up()
	began := p.now
	at := func(n time.Duration) time.Time { return began.Add(n * time.Minute) }
	seen := pidf.Seen{Tuples: []pidf.Tuple{{HasBasic: true, Open: true}}, Persons: []pidf.Person{
		{Doing: pidf.Doing{Activities: []string{"meeting"}, From: at(1), Until: at(3)}},
		{Doing: pidf.Doing{Activities: []string{"lunch"}, Until: at(2)}}}}
	p.take(document{kind: ofPresence, seen: seen}, func(string) bool { return false }, p.now)
	for i, want := range []struct {
		available plugin.Availability
		end       time.Time
	}{{plugin.Away, at(2)}, {plugin.Busy, at(3)}, {plugin.Busy, at(3)}, {plugin.Available, p.voice.until.Add(slack)}} {
		if i > 0 {
			if st := p.wait(); !st.voice || !p.now.Equal(at(time.Duration(i))) {
				t.Errorf("%d: %+v at %v", i, st, p.now)
			}
		}
		if p.voice.available != want.available || !p.voice.end().Equal(want.end) {
			t.Errorf("%d: %+v", i, p.voice)
		}
	}
	if !p.review.IsZero() || p.seen.Tuples != nil {
		t.Errorf("%+v is kept", p.seen)
	}
}
