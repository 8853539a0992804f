package main

import (
	"time"

	"github.com/busylamp/busylamp/adapters/dialoginfo"
	"github.com/busylamp/busylamp/adapters/pidf"
	"github.com/busylamp/busylamp/plugin"
)

// voice is what one subscription says of a presentity.
type voice struct {
	known     bool
	available plugin.Availability
	activity  string
	note      string
	device    string
	away      bool // out of office
	telephony bool
	since     time.Time
	until     time.Time // the end of its subscription; it is set before anything is known
	ends      time.Time // when the document says that it ends (RFC 4480 section 3.1); zero: open
}

// end returns until when a claim of it holds.
func (v voice) end() time.Time {
	if late := v.until.Add(slack); v.ends.IsZero() || late.Before(v.ends) {
		return late
	}
	return v.ends
}

// holds returns whether it says anything at a time.
func (v voice) holds(now time.Time) bool {
	return v.known && now.Before(v.until) && (v.ends.IsZero() || now.Before(v.ends))
}

// hearing is a voice, and what is needed to understand the next document.
type hearing struct {
	voice voice
	table *dialoginfo.Table // of the dialogs that have been told of; nil: none yet

	seen   pidf.Seen // the document, as long as review is set
	review time.Time // when what seen says changes next; zero: never
}

// outlasts is when nobody believes what is said any more; zero: nothing is said.
func (h *hearing) outlasts() time.Time {
	if !h.voice.known {
		return time.Time{}
	}
	return h.voice.until.Add(slack)
}

// hear takes a presence document, and when it is to be looked at again: activities begin and
// end (RFC 4480 section 3.1) without another NOTIFY.
func (h *hearing) hear(seen pidf.Seen, now time.Time) {
	h.voice.ofSeen(seen, now)
	h.seen, h.review = pidf.Seen{}, changes(seen, now)
	if !h.review.IsZero() {
		h.seen = seen
	}
}

// reconsider looks at the document again.
func (h *hearing) reconsider(now time.Time) { h.hear(h.seen, now) }

// changes returns when an activity begins or ends next, zero for never.
func changes(seen pidf.Seen, now time.Time) (next time.Time) {
	consider := func(d pidf.Doing) {
		for _, t := range []time.Time{d.From, d.Until} {
			if t.After(now) {
				next = earlier(next, t)
			}
		}
	}
	for i := range seen.Persons {
		consider(seen.Persons[i].Doing)
	}
	for i := range seen.Tuples {
		consider(seen.Tuples[i].Doing)
	}
	return next
}

// earlier returns the earlier of two times, where zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// availabilities are pidf's in the contract's words.
var availabilities = [...]plugin.Availability{pidf.SeenUnknown: plugin.Unknown, pidf.SeenOffline: plugin.Offline,
	pidf.SeenAvailable: plugin.Available, pidf.SeenAway: plugin.Away, pidf.SeenBusy: plugin.Busy,
	pidf.SeenDoNotDisturb: plugin.DoNotDisturb}

// ofSeen takes a presence document.
func (v *voice) ofSeen(seen pidf.Seen, now time.Time) {
	s, ok := seen.Summary(now)
	*v = voice{until: v.until}
	if ok {
		v.known, v.available, v.activity = true, availabilities[s.Availability], s.Activity
		v.note, v.device, v.away, v.since = s.Note, s.Device, s.OutOfOffice, s.Since
		v.ends = s.Until
	}
}

// ofTable takes the dialogs that are known: those of phones, and one that has none is there.
func (v *voice) ofTable(t *dialoginfo.Table) {
	*v = voice{until: v.until, known: true, available: plugin.Available, telephony: true}
	switch {
	case t.Busy():
		v.available, v.activity = plugin.Busy, plugin.OnThePhone
	case t.Ringing():
		v.available, v.activity = plugin.Busy, plugin.Ringing
	}
}

// take takes a NOTIFY's document, without what the host itself has published (own). An error says that it does not follow on those before.
func (h *hearing) take(d document, own func(string) bool, now time.Time) error {
	switch d.kind {
	case ofPresence:
		h.hear(d.seen.Without(own), now)
	case ofDialogs:
		if h.table == nil {
			h.table = &dialoginfo.Table{}
		}
		if err := h.table.Apply(d.dialogs); err != nil {
			return err
		}
		h.voice.ofTable(h.table)
	}
	return nil
}

// strength orders what voices say: of several the strongest is heard, as the host orders
// sources.
func (v voice) strength() int {
	switch {
	case v.available == plugin.DoNotDisturb:
		return 9
	case v.available != plugin.Busy:
		return int(v.available) // offline, available, away
	case v.activity == plugin.Presenting:
		return 8
	case v.activity == plugin.OnThePhone:
		return 7
	case v.activity == plugin.Meeting:
		return 6
	case v.activity == plugin.Ringing:
		return 4
	}
	return 5
}

// voices returns all that is said of a presentity at a time.
func (p *person) voices(now time.Time) []voice {
	var all []voice
	add := func(v voice) {
		if v.holds(now) {
			all = append(all, v)
		}
	}
	for _, g := range p.legs {
		if g.member != nil {
			for _, i := range g.member.instances {
				add(i.voice)
			}
		} else if g.sub != nil {
			add(g.sub.voice)
			for _, f := range g.forks {
				add(f.voice)
			}
		}
	}
	return all
}

// claim folds what is said of a presentity into one claim: the strongest, as long as that
// holds. ok is false if nothing is said.
func (p *person) claim(now time.Time) (c plugin.Claim, ok bool) {
	c = plugin.Claim{Presentity: p.name}
	best := 0
	for _, v := range p.voices(now) {
		c.OutOfOffice = c.OutOfOffice || v.away
		if n := v.strength(); n < best || n == best && !v.end().After(c.Until) {
			continue
		} else {
			best = n
		}
		c.Availability, c.Activity, c.Note, c.Device = v.available, v.activity, v.note, v.device
		c.Telephony, c.Since, c.Until = v.telephony, v.since, v.end()
	}
	if c.Since.After(now) || now.Sub(c.Since) > 365*24*time.Hour {
		c.Since = time.Time{} // a clock that is wrong
	}
	return c, best > 0
}

// state tells the host what is known of a presentity now, or that nothing is any more.
func (w *watcher) state(now time.Time, p *person) {
	c, ok := p.claim(now)
	if !ok {
		if p.saying {
			w.out.claim(plugin.Claim{Presentity: p.name})
		}
		p.saying, p.said = false, stated{}
		return
	}
	if c.Since.IsZero() {
		if !p.saying || c.Availability != p.last.Availability || c.Activity != p.last.Activity {
			p.since = now
		}
		c.Since = p.since // it is not restarted by being said again
	}
	if p.said.sameAs(c) {
		return
	}
	p.saying, p.last, p.said = true, c, stated(c)
	w.out.claim(c)
}

// stated is a claim that the host has heard.
type stated plugin.Claim

// sameAs returns whether to state a claim would bring nothing new: hosts are not told of each
// NOTIFY that says what the one before has said.
func (s stated) sameAs(c plugin.Claim) bool {
	near := c.Until.Sub(s.Until).Abs() < slack/2
	s.Until = c.Until
	return near && plugin.Claim(s) == c
}
