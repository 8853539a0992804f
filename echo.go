package busylamp

import "time"

// What a source reads at a server may be what we have published there ourselves. Taken for
// another's word it would be published elsewhere and, by a source that reads there, come back:
// a lamp lit by nothing but itself. Our own document is known by its tuple's id; this is for
// servers that do not keep ids.

// echoTime is how long after we have given a state up at a server what is read there may still
// be ours. What is read there for longer is another's.
const echoTime = 10 * time.Second

// given is what a publication has given up at a server that a source reads.
type given struct {
	had  State // what the server had when it was looked at last
	gave State // what it had before that
	at   time.Duration
}

// echoes tells whether a claim may be our own word: it says what we publish at the very server
// that the source reads, or have published until a moment ago, unless it said so before we
// did (old). What is seen of a phone's dialogs is never ours.
func (s *source) echoes(e *Engine, who *person, c, old *Claim) bool {
	shown := e.rules.shown[e.rules.state(c)]
	s.hasForgotten(who, shown)
	if shown == Unknown || c.telephony || old != nil && !old.echo && e.rules.shown[e.rules.state(old)] == shown {
		return false
	}
	for _, i := range s.reads {
		p := &who.pubs[i]
		if p.reads(p.has, shown) || p.given != nil && p.reads(p.given.gave, shown) && e.now < p.given.at+echoTime ||
			p.reads(p.want, shown) && (p.outstanding == Initial || p.outstanding == Modify) {
			return true
		}
	}
	return false
}

// hasForgotten notes that the server shows something else than what we have given up there, so
// that it cannot be ours when it comes again.
func (s *source) hasForgotten(who *person, shown State) {
	for _, i := range s.reads {
		if p := &who.pubs[i]; p.given != nil && !p.reads(p.given.gave, shown) {
			p.given.gave = Unknown
		}
	}
}

// reads tells whether a state that was published can be read as another.
func (p *publication) reads(published, as State) bool {
	return published != Unknown && (published == as || p.publisher.seenAs != nil && p.publisher.seenAs(published) == as)
}

// remember notes a state that the server does not have any more, and has the claims that were
// taken for it looked at again when it must have been forgotten.
func (p *publication) remember(e *Engine) {
	if !p.publisher.read || p.given == nil && p.has == Unknown {
		return
	}
	if p.given == nil {
		p.given = new(given)
	}
	g := p.given
	if g.had == p.has {
		return
	}
	g.gave, g.at, g.had = g.had, e.now, p.has
	who := p.person
	for i := range who.claims {
		if c := &who.claims[i]; c.echo {
			c.judgeAt = e.now + echoTime
			e.rearm(who)
		}
	}
}

// judge looks again at the claims that were taken for our own word.
func (who *person) judge(e *Engine) {
	for i := range who.claims {
		c := &who.claims[i]
		if c.judgeAt == 0 || c.judgeAt > e.now {
			continue
		}
		c.judgeAt = 0
		c.echo = c.echo && c.from.echoes(e, who, c, nil)
	}
}
