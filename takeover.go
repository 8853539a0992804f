package busylamp

import (
	"slices"
	"time"
)

// Record is a publication that a server has, for the next life of the sidecar to take
// over. Times are the engine's.
type Record struct {
	Publisher  string
	Presentity Presentity
	Tag        string
	State      State
	Expires    time.Duration // when the server lets it go
	Refresh    time.Duration // when it is to be refreshed
	Unsure     bool          // its last request was not answered
	Clear      bool          // it was to be removed: its presentity is free
	Sourced    bool          // a source beside the calls had a part in it
}

// sourceTakeover is the claim that holds a taken over publication until the proxies have
// said who is in a call.
const sourceTakeover = "takeover"

// Records returns what the servers have.
func (e *Engine) Records() []Record {
	var out []Record
	for _, who := range e.people {
		for i := range who.pubs {
			if p := &who.pubs[i]; p.has != Unknown && p.tag != "" && p.expires > e.now {
				out = append(out, p.record())
			}
		}
	}
	return out
}

func (p *publication) record() Record {
	return Record{Publisher: p.publisher.name, Presentity: p.person.uri, Tag: p.tag, State: p.has,
		Expires: p.expires, Refresh: p.refreshAt, Unsure: p.unsure || p.outstanding != 0,
		Clear: p.want == Unknown, Sourced: p.person.sourced()}
}

// keep has the store follow what the server is known to have. That is learned from its
// answers, so the store comes after them: a kill between the two leaves at most this one
// publication behind, which dies within its Expires.
func (e *Engine) keep(p *publication) {
	if !p.dirty || !e.cfg.Durable {
		return
	}
	p.dirty = false
	has := p.has != Unknown && p.tag != ""
	if has || p.kept {
		e.out.Store = append(e.out.Store, StoreOp{Record: p.record(), Delete: !has})
	}
	p.kept = has
}

// TakeOver begins with the publications of an earlier life. Each is held by a claim of
// its own, which ends when every proxy has been compared (in doubt, stay busy), or after
// Config.Hold.
func (e *Engine) TakeOver(records []Record) {
	byName := make(map[string]int, len(e.publishers))
	for i, p := range e.publishers {
		byName[p.name] = i
	}
	e.reserve(len(records))
	for _, r := range records {
		i, known := byName[r.Publisher]
		if !known || r.Expires <= e.now || r.Tag == "" || r.State <= Offline {
			e.out.Store = append(e.out.Store, StoreOp{Record: r, Delete: true})
			continue
		}
		who := e.person(r.Presentity)
		p := &who.pubs[i]
		p.tag, p.has, p.unsure, p.expires, p.refreshAt = r.Tag, r.State, r.Unsure, r.Expires, min(r.Refresh, r.Expires)
		if p.refreshAt <= e.now { // many came due meanwhile: not all of them at once
			p.refreshAt = e.now + time.Duration(e.rand.Int64N(int64(r.Expires-e.now)/2+1))
		}
		p.publisher.calendar.book(p)
		p.kept = true
		if !r.Clear {
			p.held = r.State
			e.hold(who, r)
		}
		e.plan(p)
	}
	e.takeover = true
	e.endTakeover()
	e.dispatch()
}

// endTakeover drops the claims of the earlier life once every proxy has been compared.
func (e *Engine) endTakeover() {
	if !e.takeover {
		return
	}
	for _, p := range e.proxies {
		if p.resync.done == 0 {
			return
		}
	}
	e.takeover, e.held = false, slices.Clone(e.people)
	e.letGo()
}

// letGoAtOnce is how many people are looked at in one tick: some 50 ms of work, so that a million
// are through within 5 s and nothing else waits for them.
const letGoAtOnce = 20_000

// letGo drops the claims of the earlier life of those who are next, once in a tick.
func (e *Engine) letGo() {
	if len(e.held) == 0 || e.now < e.letGoAt {
		return
	}
	e.letGoAt = e.now + wheelTick
	n := min(len(e.held), letGoAtOnce)
	for _, who := range e.held[:n] {
		e.settleTakeover(who)
	}
	if e.held = e.held[n:]; len(e.held) == 0 {
		e.held = nil
	}
}

// hold notes that something was published of somebody: the strongest of it, for people to
// see. What each publisher holds is its own: publication.held.
func (e *Engine) hold(who *person, r Record) {
	c := Claim{Source: sourceTakeover, State: r.State, Since: e.now, Until: max(r.Expires, e.now+e.cfg.Hold), telephony: !r.Sourced}
	if old := who.claimOf(sourceTakeover); old != nil {
		c.Until, c.telephony = max(c.Until, old.Until), c.telephony && old.telephony
		if e.rules.rank[old.State] > e.rules.rank[c.State] {
			c.State = old.State
		}
	}
	who.setClaim(c)
	e.refold(who, reason{}) // that it goes on is no news
}

// reserve makes room for so many people, so that it does not grow step by step.
func (e *Engine) reserve(n int) {
	if len(e.people) == 0 {
		e.byURI, e.people = make(map[Presentity]*person, n), make([]*person, 0, n)
	}
}

// sourced tells whether a source beside the calls has a part in somebody's presence.
func (who *person) sourced() bool {
	return slices.ContainsFunc(who.claims, func(c Claim) bool {
		return c.State.Published() && (c.from != nil || c.Source == sourceTakeover && !c.telephony)
	})
}

// sourceTime is how long a source may take to come up, and one that is not asked to speak.
const sourceTime = 25 * time.Second

// lookAgain is how often it is looked whether sources that are waited for have spoken, beside
// when one does.
const lookAgain = 5 * time.Second

// awaits tells whether a source that speaks for somebody taken over has not done so yet. Those
// who wait for their turn to be asked for are waited for, for askedLate at most.
func (who *person) awaits(e *Engine) bool {
	for _, src := range e.sources {
		s, c := who.subscriptionTo(src), who.claimOf(src.Name)
		switch {
		case !who.hears(src) || c != nil && !c.echo:
		case !src.running, src.info.Unasked && src.serves(who.uri):
			if e.now < sourceTime {
				return true
			}
		case s != nil && (s.state == Waiting || s.state == Requesting) && s.failures == 0 && e.now < askedLate,
			s != nil && s.state == Subscribed && e.now-s.since < sourceTime/2:
			return true
		}
	}
	return false
}

// settleTakeover lets go of what was taken over, once those have spoken who could have made
// it: the proxies, if it may be a call, and the sources, if one had a part in it.
func (e *Engine) settleTakeover(who *person) {
	c := who.claimOf(sourceTakeover)
	if c == nil {
		return
	}
	call := c.telephony || c.State == e.rules.shown[OnThePhone] || c.State == e.rules.shown[Ringing]
	switch {
	case e.takeover && call:
	case !c.telephony && who.awaits(e):
		c.judgeAt = e.now + lookAgain
		e.rearm(who)
	default:
		e.claim(who, Claim{Source: sourceTakeover, State: Unknown}, reason{what: "not in a call when taken over"})
	}
}

// Quiesce lets no further request out.
func (e *Engine) Quiesce() { e.quiet = true }

// Outstanding returns how many requests are unanswered.
func (e *Engine) Outstanding() (n int) {
	for _, p := range e.publishers {
		n += p.inFlight
	}
	return n
}
