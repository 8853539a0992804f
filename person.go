package busylamp

import (
	"slices"
	"time"
)

// person is a presentity with something to tell: calls, claims or publications. One that
// has none of them any more is forgotten. There may be a million, nearly all of them with a
// call and a publication and nothing else, so the rest is in extras.
type person struct {
	uri       Presentity
	place     int32 // in Engine.people, -1 when forgotten
	confirmed int32 // calls
	early     int32
	inCall    State         // what the calls amount to: the claim of the built-in source
	callSince time.Duration // when that began
	presence  Presence
	speaks    uint64 // sources by index that are heard of this presentity, and speaksCalls
	*extras
	pubs  []publication // one of each publisher
	alarm alarm         // for the first clock: see clocks.go
}

// extras are what few people have.
type extras struct {
	claims   []Claim         // one of each source but the calls
	watchers []watcher       // who asks for this presentity's presence
	subs     []*subscription // one of each source that is to watch it
	endpoint *EndpointConfig // nil: a person
}

// noExtras are those of all who have none: to be read, and never written to.
var noExtras extras

// extend gives somebody extras of his own, to be written to.
func (who *person) extend() {
	if who.extras == &noExtras {
		who.extras = new(extras)
	}
}

// shed drops extras that are of no more use.
func (who *person) shed() {
	if len(who.claims)+len(who.watchers)+len(who.subs) == 0 && who.endpoint == nil {
		who.extras = &noExtras
	}
}

// forgotten tells whether somebody is not the engine's any more.
func (who *person) forgotten() bool { return who.place < 0 }

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

// person returns the record of a presentity, a new one if there is none; the URI is kept.
func (e *Engine) person(uri Presentity) *person {
	who := e.byURI[uri]
	if who != nil {
		return who
	}
	who = e.newPerson()
	who.uri, who.place, who.extras = uri, int32(len(e.people)), &noExtras
	who.presence = Presence{State: Available, Since: e.now}
	who.speaks = e.speakers(uri)
	for i := range who.pubs {
		p := &who.pubs[i]
		p.person, p.publisher, p.setback = who, e.publishers[i], &noSetback
		p.muted = p.publisher.wants != nil && !p.publisher.wants(uri)
	}
	e.byURI[uri] = who
	e.people = append(e.people, who)
	return who
}

// newPerson makes room for somebody and his publications: all of it in one piece in the usual
// case of one publisher.
func (e *Engine) newPerson() *person {
	if len(e.publishers) == 1 {
		both := new(struct {
			person
			pub [1]publication
		})
		both.pubs = both.pub[:]
		return &both.person
	}
	return &person{pubs: make([]publication, len(e.publishers))}
}

// forgetIdle drops somebody who has nothing to tell.
func (e *Engine) forgetIdle(who *person) {
	if who.confirmed+who.early > 0 || who.inCall != Unknown || who.extras != &noExtras || who.forgotten() {
		return
	}
	for i := range who.pubs {
		if who.pubs[i].occupied(e) {
			return
		}
	}
	for i := range who.pubs {
		who.pubs[i].refuse(false)
	}
	e.wheel.stop(who)
	delete(e.byURI, who.uri)
	last := e.people[len(e.people)-1]
	e.people[who.place], last.place = last, who.place
	e.people[len(e.people)-1] = nil
	e.people = e.people[:len(e.people)-1]
	who.place = -1
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
		p.wakeAt = forget
		e.rearm(p.person)
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

// setCalls replaces what somebody's calls amount to, and reports whether that is news.
func (who *person) setCalls(state State, now time.Duration) bool {
	if who.inCall == state {
		return false
	}
	who.inCall, who.callSince = state, now
	return true
}

// setClaim reports whether the claim differs from the earlier one. A claim of Unknown is
// none.
func (who *person) setClaim(c Claim) bool {
	old := who.claimOf(c.Source)
	switch {
	case old == nil && c.State == Unknown:
		return false
	case old == nil:
		who.addClaim(c)
		c.from.claims(who, true)
		return true
	case c.State == Unknown:
		c.from = old.from
		who.claims = slices.DeleteFunc(who.claims, func(old Claim) bool { return old.Source == c.Source })
		who.shed()
		c.from.claims(who, false)
		return true
	}
	if old.State == c.State && old.Until == c.Until && old.telephony == c.telephony && c.from == nil {
		return false
	}
	*old = c
	return true
}

// addClaim adds the claim of one more source; the first one needs no room of its own.
func (who *person) addClaim(c Claim) {
	if who.extras == &noExtras {
		both := new(struct {
			extras
			first [1]Claim
		})
		both.claims = both.first[:0]
		who.extras = &both.extras
	}
	who.claims = append(who.claims, c)
}

// claimOf returns what a source says, nil for nothing. The calls are no such claim.
func (who *person) claimOf(source string) *Claim {
	for i := range who.claims {
		if who.claims[i].Source == source {
			return &who.claims[i]
		}
	}
	return nil
}

// refold makes one presence of somebody's claims. A change without a reason is not told.
func (e *Engine) refold(who *person, why reason) {
	e.rearm(who)
	presence := e.rules.fold(who, e.now, nil)
	changed := presence.State != who.presence.State
	switch {
	case changed:
		if presence.Source == "" {
			presence.Since = e.now
		}
		if why != (reason{}) {
			e.stats.Changes++
			e.out.Changes = append(e.out.Changes, Change{Presentity: who.uri, Old: who.presence, New: presence, why: why})
		}
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
		presence = e.rules.fold(who, e.now, func(source string, telephony bool) bool {
			return source != sourceTakeover && (p.publisher.hears == nil || p.publisher.hears(source, telephony))
		})
	} else if p.publisher.hears != nil {
		presence = e.rules.fold(who, e.now, p.publisher.hears)
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
