package busylamp

import "time"

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
		Clear: p.want == Unknown}
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
	for _, r := range records {
		i, known := byName[r.Publisher]
		if !known || r.Expires <= e.now || r.Tag == "" || r.State <= Offline {
			e.out.Store = append(e.out.Store, StoreOp{Record: r, Delete: true})
			continue
		}
		who := e.person(r.Presentity)
		p := &who.pubs[i]
		p.tag, p.has, p.unsure, p.life, p.expires, p.refreshAt = r.Tag, r.State, r.Unsure, r.Expires, r.Expires, min(r.Refresh, r.Expires)
		if p.refreshAt <= e.now { // many came due meanwhile: not all of them at once
			p.refreshAt = e.now + time.Duration(e.rand.Int64N(int64(r.Expires-e.now)/2+1))
		}
		p.publisher.calendar.book(p)
		p.kept = true
		if !r.Clear {
			until := max(r.Expires, e.now+e.cfg.Hold)
			e.claim(who, Claim{Source: sourceTakeover, State: r.State, Since: e.now, Until: until}, reason{what: "taken over"})
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
	e.takeover = false
	for _, who := range append([]*person(nil), e.people...) {
		if who.awaits(e) {
			e.claim(who, Claim{Source: sourceTakeover, State: who.claimOf(sourceTakeover).State, Since: e.now, Until: e.now + sourceTime}, reason{})
			continue
		}
		e.letGo(who)
	}
}

func (e *Engine) letGo(who *person) {
	e.claim(who, Claim{Source: sourceTakeover, State: Unknown}, reason{what: "not in a call when taken over"})
}

// sourceTime is how long the sources have, after the proxies, to say what they know of those
// whose publications were taken over.
const sourceTime = 30 * time.Second

// awaits tells whether a source that speaks for somebody taken over has not done so yet.
func (who *person) awaits(e *Engine) bool {
	if who.claimOf(sourceTakeover) == nil || e.now > sourceTime*2 {
		return false
	}
	for _, src := range e.sources {
		s := who.subscriptionTo(src)
		switch {
		case !who.hears(src) || who.claimOf(src.Name) != nil:
		case !src.running, src.info.Unasked && src.serves(who.uri):
			return true
		case s != nil && s.failures == 0 && (s.state == Waiting || s.state == Requesting || s.state == Subscribed):
			return true
		}
	}
	return false
}

// settleTakeover lets go of what was taken over, once the sources have spoken.
func (e *Engine) settleTakeover(who *person) {
	if !e.takeover && who.claimOf(sourceTakeover) != nil && !who.awaits(e) {
		e.letGo(who)
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
