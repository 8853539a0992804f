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
}

// hearing is a voice, and what is needed to understand the next document.
type hearing struct {
	voice voice
	table *dialoginfo.Table // of the dialogs that have been told of; nil: none yet
}

// availabilities are pidf's in the contract's words.
var availabilities = [...]plugin.Availability{pidf.SeenUnknown: plugin.Unknown, pidf.SeenOffline: plugin.Offline,
	pidf.SeenAvailable: plugin.Available, pidf.SeenAway: plugin.Away, pidf.SeenBusy: plugin.Busy,
	pidf.SeenDoNotDisturb: plugin.DoNotDisturb}

// ofSeen takes a presence document, without what the host itself has published.
func (v *voice) ofSeen(seen pidf.Seen, own func(string) bool, now time.Time) {
	s, ok := seen.Without(own).Summary(now)
	*v = voice{until: v.until}
	if ok {
		v.known, v.available, v.activity = true, availabilities[s.Availability], s.Activity
		v.note, v.device, v.away, v.since = s.Note, s.Device, s.OutOfOffice, s.Since
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

// take takes a NOTIFY's document. An error says that it does not follow on those before.
func (h *hearing) take(d document, own func(string) bool, now time.Time) error {
	switch d.kind {
	case ofPresence:
		h.voice.ofSeen(d.seen, own, now)
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
		if v.known && now.Before(v.until) {
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
		if n := v.strength(); n < best || n == best && !v.until.After(c.Until) {
			continue
		} else {
			best = n
		}
		c.Availability, c.Activity, c.Note, c.Device = v.available, v.activity, v.note, v.device
		c.Telephony, c.Since, c.Until = v.telephony, v.since, v.until
	}
	c.Until = c.Until.Add(slack)
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
