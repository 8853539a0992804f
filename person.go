package busylamp

import (
	"slices"
	"time"
)

// person is a presentity with something to tell: calls, claims or publications. One that
// has none of them any more is forgotten.
type person struct {
	uri       Presentity
	place     int   // in Engine.people
	confirmed int32 // calls
	early     int32
	claims    []Claim // one of each source
	presence  Presence
	watchers  []watcher       // who asks for this presentity's presence
	subs      []*subscription // one of each source that is to watch it
	speaks    uint64          // sources by index that are heard of this presentity, and speaksCalls
	endpoint  *EndpointConfig // nil: a person
	pubs      []publication   // one of each publisher
	timer     timer           // the next claim to lapse
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
	who.speaks = e.speakers(uri)
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
	if who.confirmed+who.early > 0 || len(who.claims) > 0 || len(who.watchers) > 0 || who.endpoint != nil {
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
	old := who.claimOf(c.Source)
	switch {
	case old == nil && c.State == Unknown:
		return false
	case old == nil:
		who.claims = append(who.claims, c)
		c.from.claims(who, true)
		return true
	case c.State == Unknown:
		c.from = old.from
		who.claims = slices.DeleteFunc(who.claims, func(old Claim) bool { return old.Source == c.Source })
		c.from.claims(who, false)
		return true
	}
	if old.State == c.State && old.Until == c.Until && old.telephony == c.telephony && c.from == nil {
		return false
	}
	*old = c
	return true
}

func (who *person) claimOf(source string) *Claim {
	for i := range who.claims {
		if who.claims[i].Source == source {
			return &who.claims[i]
		}
	}
	return nil
}

// refold makes one presence of somebody's claims.
func (e *Engine) refold(who *person, why reason) {
	if next := who.nextLapse(); next > 0 {
		e.wheel.set(&who.timer, next)
	}
	presence := e.rules.fold(who.claims, e.now, nil)
	changed := presence.State != who.presence.State
	switch {
	case changed:
		if presence.Source == "" {
			presence.Since = e.now
		}
		e.stats.Changes++
		e.out.Changes = append(e.out.Changes, Change{Presentity: who.uri, Old: who.presence, New: presence, why: why})
		who.presence = presence
	case presence.Source != "":
		who.presence.Source = presence.Source // another says the same now
	}
	for i := range who.pubs {
		p := &who.pubs[i]
		want := e.wanted(p)
		if want == p.want && !changed {
			continue
		}
		p.want = want
		p.hurry(e)
		e.plan(p)
	}
}

// wanted is what a publisher's server is to show of somebody, Unknown for nothing.
func (e *Engine) wanted(p *publication) State {
	who := p.person
	if p.muted || e.stopping {
		return Unknown
	}
	presence, held := who.presence, Unknown
	if who.claimOf(sourceTakeover) != nil { // which is of all publishers, and p.held of this one
		held = p.held
		presence = e.rules.fold(who.claims, e.now, func(c *Claim) bool {
			return c.Source != sourceTakeover && (p.publisher.hears == nil || p.publisher.hears(c))
		})
	} else if p.publisher.hears != nil {
		presence = e.rules.fold(who.claims, e.now, p.publisher.hears)
	}
	shown := e.rules.shown[presence.State]
	if held != Unknown && (shown == Unknown || e.rules.rank[held] > e.rules.rank[presence.State]) {
		return held
	}
	if shown == Unknown && presence.State == Available && who.endpoint != nil {
		return Available // nobody else says that an application is there
	}
	return shown
}

// nextLapse returns when the next of somebody's claims or watchers lapses, or a claim is to be
// looked at again; 0 for never.
func (who *person) nextLapse() (next time.Duration) {
	sooner := func(at time.Duration) {
		if at > 0 && (next == 0 || at < next) {
			next = at
		}
	}
	for i := range who.claims {
		sooner(who.claims[i].Until)
		sooner(who.claims[i].judgeAt)
	}
	for _, w := range who.watchers {
		sooner(w.until)
	}
	return next
}

// wake drops the claims and the watchers that have lapsed.
func (who *person) wake(e *Engine) {
	if len(who.watchers) > 0 {
		e.dismiss(who, func(w watcher) bool { return w.until > 0 && w.until <= e.now })
	}
	who.claims = slices.DeleteFunc(who.claims, func(c Claim) bool {
		lapsed := !c.live(e.now)
		if lapsed {
			c.from.claims(who, false)
		}
		return lapsed
	})
	who.judge(e)
	e.settleTakeover(who)
	e.refold(who, reason{what: "claim lapsed"})
	for _, s := range who.subs {
		e.tellSubscription(s)
	}
	e.forgetIdle(who)
}
