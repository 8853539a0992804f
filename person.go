package busylamp

import "time"

// person is a presentity with something to tell: calls, claims or publications. One that
// has none of them any more is forgotten.
type person struct {
	uri       Presentity
	place     int   // in Engine.people
	confirmed int32 // calls
	early     int32
	claims    []Claim // one of each source
	presence  Presence
	pubs      []publication // one of each publisher
	timer     timer         // the next claim to lapse
}

// join counts a call in. Nobody (nil) counts nothing.
func (who *person) join(s Stage) { who.count(s, 1) }

// leave counts a call out.
func (who *person) leave(s Stage) { who.count(s, -1) }

func (who *person) count(s Stage, n int32) {
	switch {
	case who == nil:
	case s == Confirmed:
		who.confirmed += n
	case s == Early:
		who.early += n
	}
}

// person returns the record of a presentity, a new one if there is none.
func (e *Engine) person(uri Presentity) *person {
	who := e.byURI[uri]
	if who != nil {
		return who
	}
	who = &person{uri: uri, place: len(e.people), presence: Presence{State: Available, Since: e.now}}
	who.timer.owner = who
	who.pubs = make([]publication, len(e.publishers))
	for i := range who.pubs {
		p := &who.pubs[i]
		p.person, p.publisher, p.timer.owner = who, e.publishers[i], p
		p.muted = p.publisher.wants != nil && !p.publisher.wants(uri)
	}
	e.byURI[uri] = who
	e.people = append(e.people, who)
	return who
}

// forgetIdle drops somebody who has nothing to tell.
func (e *Engine) forgetIdle(who *person) {
	if who.confirmed+who.early > 0 || len(who.claims) > 0 {
		return
	}
	if e.byURI[who.uri] != who {
		return
	}
	for i := range who.pubs {
		if who.pubs[i].occupied(e) {
			return
		}
	}
	for i := range who.pubs {
		who.pubs[i].refuse(false)
		e.wheel.stop(&who.pubs[i].timer)
	}
	e.wheel.stop(&who.timer)
	delete(e.byURI, who.uri)
	last := e.people[len(e.people)-1]
	e.people[who.place], last.place = last, who.place
	e.people[len(e.people)-1] = nil
	e.people = e.people[:len(e.people)-1]
}

// A refusal is remembered for longer than its delay, so that the delay can grow, and only
// so many of people without calls.
const (
	refusedMemory = 2 * refusedMost
	maxRefused    = 100_000
)

// occupied tells whether a publication is still needed. A refusal is remembered for a while
// after the calls, so that the next call does not begin anew with the server's patience.
func (p *publication) occupied(e *Engine) bool {
	if p.has != Unknown || p.outstanding != 0 || p.waits != 0 {
		return true
	}
	if forget := p.sentAt + refusedMemory; (p.refused || p.turnedAway > 0) && e.now < forget && p.publisher.refused <= maxRefused {
		e.wheel.set(&p.timer, forget)
		return true
	}
	return false
}

// claim replaces what one source says of somebody, and tells the publishers if the
// presence changes by it.
func (e *Engine) claim(who *person, c Claim, why reason) {
	if !e.stopping && who.setClaim(c) {
		e.refold(who, why)
	}
	e.forgetIdle(who)
}

// setClaim reports whether the claim differs from the earlier one. A claim of Unknown is
// none.
func (who *person) setClaim(c Claim) bool {
	for i := range who.claims {
		old := &who.claims[i]
		if old.Source != c.Source {
			continue
		}
		if old.State == c.State && old.Until == c.Until {
			return false
		}
		if c.State == Unknown {
			who.claims = append(who.claims[:i], who.claims[i+1:]...)
		} else {
			*old = c
		}
		return true
	}
	if c.State == Unknown {
		return false
	}
	who.claims = append(who.claims, c)
	return true
}

// refold makes one presence of somebody's claims.
func (e *Engine) refold(who *person, why reason) {
	if next := who.nextLapse(e.now); next > 0 {
		e.wheel.set(&who.timer, next)
	}
	presence := fold(who.claims, e.now)
	if presence.State == who.presence.State {
		if presence.Source != "" {
			who.presence.Source = presence.Source // another says the same now
		}
		return
	}
	if presence.Source == "" {
		presence.Since = e.now
	}
	e.stats.Changes++
	e.out.Changes = append(e.out.Changes, Change{Presentity: who.uri, Old: who.presence, New: presence, why: why})
	who.presence = presence
	for i := range who.pubs {
		who.pubs[i].hurry(e)
		e.plan(&who.pubs[i])
	}
}

// nextLapse returns when the next of somebody's claims lapses, 0 for never.
func (who *person) nextLapse(now time.Duration) (next time.Duration) {
	for _, c := range who.claims {
		if c.Until > now && (next == 0 || c.Until < next) {
			next = c.Until
		}
	}
	return next
}

// wake drops the claims that have lapsed.
func (who *person) wake(e *Engine) {
	live := who.claims[:0]
	for _, c := range who.claims {
		if c.Until == 0 || c.Until > e.now {
			live = append(live, c)
		}
	}
	clear(who.claims[len(live):])
	who.claims = live
	e.refold(who, reason{what: "claim lapsed"})
	e.forgetIdle(who)
}
