package busylamp

import (
	"fmt"
	"math"
	"time"
)

// publication is one presentity at one publisher: what its server is known to have, and
// when to act next. What is desired is the person's presence; [publication.next] says how
// to get from the one to the other. At most one request is outstanding (RFC 3903 section
// 4.1 forbids more), so a burst of changes ends in one request with the latest state.
type publication struct {
	person    *person
	publisher *publisher

	// Known at the server. tag is the entity-tag of the last 2xx; has is the state that
	// it holds until expires, Unknown when it holds nothing that we know of.
	tag       string
	expires   time.Duration
	refreshAt time.Duration // when to refresh
	sentAt    time.Duration // when the last request was
	wakeAt    time.Duration // when to look again, 0 for never; see clocks.go
	*setback
	given *given // nil: nothing; see echo.go

	slot        int32 // in the publisher's calendar, 0 for none
	lastCode    int16
	has         State
	want        State // what it should show, Unknown for nothing
	held        State // what an earlier life has left, until it is known what is true; Unknown for nothing
	unsure      bool  // a request went unanswered, so that has may be out of date
	outstanding Kind  // 0: nothing is outstanding
	waits       lane  // for a free place at the publisher
	muted       bool  // the publisher does not want this presentity
	kept        bool  // the store has a record of it
	dirty       bool  // which is not what it should be
}

// setback is what went wrong with a publication since its last success.
type setback struct {
	notBefore   time.Duration // back-off
	turnedAway  time.Duration // when the server said so of its last request, with Retry-After; or 0
	former      string        // a tag that the server failed at, to be removed in case it knows it after all
	lastReason  string
	attempts    uint8 // since the last success
	tagFailures uint8 // answers of 5xx on end to requests with the tag
	refused     bool  // by the last answer
	told        bool  // notBefore is the server's wish
}

// noSetback is that of all publications that are well: to be read, and never written to.
var noSetback setback

// setBack gives a publication a setback of its own, to be written to.
func (p *publication) setBack() *setback {
	if p.setback == &noSetback {
		p.setback = new(setback)
	}
	return p.setback
}

// lane is where a publication waits for its turn.
type lane uint8

const (
	routine lane = iota + 1 // refreshes
	again                   // what failed before
	urgent                  // changes of state, and refreshes at the last moment: they go first
)

// publisher is one presence server and the publications there.
type publisher struct {
	name     string
	index    int
	expires  time.Duration // to ask for
	initial  time.Duration // to ask for at first
	max      int           // requests outstanding at most
	wants    func(Presentity) bool
	hears    part // of the claims; nil: all
	seenAs   func(State) State
	read     bool // by a source
	inFlight int
	lanes    [urgent + 1]queue[*publication]
	circuit  circuit
	rate     bucket
	calendar calendar
	refused  int // publications

	trouble    string        // what was last told of it, "" when it is well
	troubleAt  time.Duration // when
	sentinel   bool          // see sentinel.go
	sentinelAt time.Duration
	suspectAt  time.Duration
	cursor     int // in Engine.people

	least time.Duration // the shortest lifetime that the server grants, as far as it said

	requests [Remove + 1][Refused + 1]uint64
	codes    map[int]uint64
}

// next says what brings the server's knowledge to what is desired: the kind of request to
// send now, or 0 and when to look again (0: never).
func (p *publication) next(now time.Duration) (k Kind, wake time.Duration) {
	if p.outstanding != 0 {
		return 0, 0 // its outcome will look again
	}
	if p.has != Unknown && now >= p.expires {
		p.nothing() // the server has let it go (RFC 3903 section 4.1)
	}
	switch {
	case p.former != "":
		k = Remove
	case p.want == Unknown && p.has == Unknown:
		return 0, 0
	case p.want == Unknown:
		k = Remove
	case p.has == p.want && !p.unsure && now < p.refreshAt:
		return 0, max(p.refreshAt, p.notBefore)
	case p.has == Unknown || p.tag == "" || p.tagFailures >= tagDoubted:
		k = Initial
	case p.has == p.want && !p.unsure:
		k = Refresh
	default:
		k = Modify
	}
	if now < p.notBefore {
		return 0, p.notBefore
	}
	return k, 0
}

// lastMoment returns when a refresh may wait no longer for changes of state to go first.
func (p *publication) lastMoment() time.Duration { return p.sentAt + (p.expires-p.sentAt)*9/10 }

// Back-off after a failure, and after a refusal that will hardly change by itself. The
// first must stay well below 30 s: that is when a server that is back must be right.
const (
	failedFirst, failedMost   = 500 * time.Millisecond, 20 * time.Second
	refusedFirst, refusedMost = 30 * time.Second, 10 * time.Minute
	refusedStuck              = time.Minute
	// A server that grants more than this is asked again after it all the same.
	maxServerExpires = 24 * time.Hour
	// tagDoubted is how many failures with a tag make the tag suspect: Kamailio answers
	// 500, and not 412, to one that is not of its own making.
	tagDoubted = 3
)

// settle takes the outcome of the outstanding request.
func (p *publication) settle(e *Engine, r Request, o Outcome) {
	p.outstanding = 0
	if r.former {
		p.forgetFormer() // any answer will do, for as a rule the server never knew it; and without one it dies
		return
	}
	p.lastCode = int16(o.Code)
	if p.untagged(e, r, o) {
		return
	}
	p.refuse(o.Result == Refused)
	e.noteOutcome(p, r, o)
	if o.Result == Accepted {
		p.accepted(e, r, o)
		return
	}
	s := p.setBack()
	s.lastReason = o.Reason
	if o.Result != Unavailable {
		s.turnedAway = 0
	}
	switch o.Result {
	case Gone:
		p.nothing()
		if r.Tag == "" { // this makes no sense, and is not raced
			p.retry(e, failedFirst, failedMost, o)
			return
		}
		s.attempts, s.notBefore = 0, 0 // afresh at once, for the server is well
		e.suspect(p.publisher)
	case TooBrief: // again at once, with the lifetime that the server grants; but only once
		if s.attempts == 0 {
			s.tries()
			return
		}
		p.retry(e, failedFirst, failedMost, o)
	case Refused:
		p.unsure = true
		p.retry(e, refusedFirst, refusedMost, o)
		p.hurry(e)
	case Unavailable:
		p.unavailable(e, o)
	default:
		p.unsure = true
		most := failedMost
		if s.doubtTag(r) {
			most = failedFirst // the next request settles the doubt
		}
		p.retry(e, failedFirst, most, o)
	}
}

// untagged takes the end of a publication at a server that gives no tags: it takes no removal
// without one (400), so that what it has lapses there, or has nothing any more (412).
func (p *publication) untagged(e *Engine, r Request, o Outcome) bool {
	if r.Kind != Remove || r.Tag != "" || o.Code != 400 && o.Result != Gone {
		return false
	}
	p.refuse(false)
	p.setback = &noSetback
	p.nothing()
	if o.Code == 400 {
		e.trouble(p.publisher, "400 to a removal", "the server gives no entity-tags and takes no removal without one; what it has lapses by itself", string(r.Presentity))
	}
	return true
}

// unavailable takes an outcome that says more of the server than of the presentity. The
// back-off is there all the same: the next probe is to be another one.
func (p *publication) unavailable(e *Engine, o Outcome) {
	p.unsure = true
	s := p.setBack()
	before := s.turnedAway
	s.turnedAway = 0
	switch {
	case o.Code == 0 && e.now-p.sentAt < silence: // else the silence has told
		e.unreachable(p.publisher)
	case o.Code != 0 && o.RetryAfter > 0:
		// A server that accepts others, and turns this one away again, means this one alone.
		s.turnedAway = e.now
		if before == 0 || p.publisher.circuit.acceptedAt <= before {
			e.suspend(p.publisher, o.RetryAfter)
		}
	}
	p.retry(e, failedFirst, failedMost, o)
}

// hurry shortens a refused publication's delay where a lamp shows what is not so, unless
// the server asked for it.
func (p *publication) hurry(e *Engine) {
	if p.refused && !p.told && p.has != Unknown && p.has != p.want {
		p.notBefore = min(p.notBefore, e.now+e.spread(refusedStuck))
	}
}

// retry sets the back-off: it grows with every try, and is no shorter than the server asks.
func (p *publication) retry(e *Engine, first, most time.Duration, o Outcome) {
	s := p.setBack()
	s.tries()
	s.told = o.RetryAfter > 0
	s.notBefore = e.now + max(e.spread(backoff(int(s.attempts), first, most)), min(o.RetryAfter, maxRetryAfter))
}

// doubtTag counts the failures with the tag, and tells whether to try again at once: until it
// is suspect, and then without it, so that the doubt is settled well within the 30 s of I8
// however long the server was away before. If that fails as well, it may not have been the
// tag, and the two take turns. Removals go on with the tag: were the server at fault, nobody
// else would end what it has.
func (s *setback) doubtTag(r Request) bool {
	if r.Tag == "" {
		s.tagFailures = min(s.tagFailures, tagDoubted-1)
		return false
	}
	s.tagFailures = min(s.tagFailures+1, tagDoubted)
	return r.Kind != Remove
}

// adopt takes the shortest lifetime that a server grants (RFC 3903 section 6, step 4), and
// tells whether there is sense in asking again.
func (e *Engine) adopt(pub *publisher, r Request, least time.Duration) bool {
	if r.Kind == Remove || least > maxServerExpires {
		return false
	}
	if least > pub.least {
		pub.least = least
		e.note(true, "the server grants no publication that is so short; a longer one is asked for", "publisher", pub.name,
			fmt.Sprintf("its Min-Expires is %.0f s and %.0f s were asked for: raise expires", least.Seconds(), r.Expires.Seconds()))
	}
	return pub.least > r.Expires
}

// asks returns the lifetime to ask for.
func (p *publisher) asks(wish time.Duration) time.Duration { return max(wish, p.least) }

// refuse counts the publications whose last request was refused.
func (p *publication) refuse(refused bool) {
	if p.refused != refused {
		p.setBack().refused = refused
		p.publisher.refused += map[bool]int{true: 1, false: -1}[refused]
	}
}

// nothing notes that the server holds nothing of ours.
func (p *publication) nothing() {
	p.tag, p.has, p.unsure = "", Unknown, false
	if p.setback != &noSetback {
		p.former, p.tagFailures = "", 0
	}
	p.publisher.calendar.cancel(p)
	p.dirty = p.kept
}

// forgetFormer gives up a tag that the server failed at.
func (p *publication) forgetFormer() {
	if p.former == "" {
		return
	}
	p.former = ""
	if *p.setback == noSetback {
		p.setback = &noSetback
	}
}

func (s *setback) tries() {
	if s.attempts < math.MaxUint8 {
		s.attempts++
	}
}

// accepted notes what the server has now. It may have started its clock when the request was
// sent, so that is what a refresh counts from; or only now, if nothing before had reached it, so
// that is how long it may have it.
func (p *publication) accepted(e *Engine, r Request, o Outcome) {
	p.setback = &noSetback
	if r.Kind == Remove {
		p.nothing()
		return
	}
	p.unsure = false
	life := o.Expires
	if life <= 0 {
		life = r.Expires
	}
	life = min(life, maxServerExpires)
	if r.Kind == Initial && p.tag != "" {
		p.setBack().former = p.tag // the server may know it after all
	}
	if o.Tag != "" || r.Kind == Initial { // without one, the tag that it knew is the best guess
		p.tag = o.Tag
	}
	if r.Kind != Refresh {
		p.has = r.State
	}
	p.expires = e.now + life
	p.dirty = true
	e.bookRefresh(p, life)
}

// request builds the PUBLISH of a kind.
func (p *publication) request(e *Engine, k Kind) Request {
	r := Request{Kind: k, Presentity: p.person.uri, publication: p}
	switch {
	case k == Remove && p.former != "":
		r.Tag, r.former = p.former, true
		return r
	case k == Remove:
		r.Tag = p.tag
		return r
	case k == Initial:
		r.Expires = p.publisher.asks(p.publisher.initial)
	default:
		r.Tag, r.Expires = p.tag, p.publisher.asks(p.publisher.expires)
	}
	r.State = p.want
	r.DisplayName = e.cfg.Directory.DisplayName(p.person.uri)
	return r
}

// backoff doubles from first with every try, up to most.
func backoff(tries int, first, most time.Duration) time.Duration {
	d := first
	for ; tries > 1 && d < most; tries-- {
		d *= 2
	}
	return min(d, most)
}

// queue is a first-in, first-out list without a bound of its own: it holds publications,
// each once, but for those that went on to a better lane (see skipStale).
type queue[T any] struct {
	items []T
	head  int
}

func (q *queue[T]) push(v T) { q.items = append(q.items, v) }

func (q *queue[T]) len() int { return len(q.items) - q.head }

func (q *queue[T]) pop() T {
	v := q.items[q.head]
	var zero T
	q.items[q.head] = zero
	q.head++
	if q.head > len(q.items)/2 {
		q.items = append(q.items[:0], q.items[q.head:]...)
		q.head = 0
	}
	return v
}
