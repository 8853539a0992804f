package busylamp

import (
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
	tag     string
	has     State
	unsure  bool // a request went unanswered, so that has may be out of date
	expires time.Duration

	timer       timer
	refreshAt   time.Duration // when to refresh
	notBefore   time.Duration // back-off
	sentAt      time.Duration
	attempts    uint8 // since the last success
	outstanding Kind  // 0: nothing is outstanding
	waits       lane  // for a free place at the publisher
	lastCode    int16
	lastReason  string
}

// lane is where a publication waits for its turn.
type lane uint8

const (
	routine lane = iota + 1 // refreshes
	urgent                  // changes of state, which go first
)

// publisher is one presence server and the publications there.
type publisher struct {
	name     string
	index    int
	expires  time.Duration
	max      int // requests outstanding at most
	inFlight int
	lanes    [urgent + 1]queue[*publication]

	trouble    string        // what was last told of it, "" when it is well
	troubleAt  time.Duration // when
	sentinel   bool          // see sentinel.go
	sentinelAt time.Duration
	suspectAt  time.Duration
	cursor     int // in Engine.people

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
	desired := p.person.presence.State
	switch {
	case !desired.Published() && p.has == Unknown:
		return 0, 0
	case !desired.Published():
		k = Remove
	case p.has == Unknown || p.tag == "" && (p.has != desired || now >= p.refreshAt):
		k = Initial
	case p.has != desired || p.unsure:
		k = Modify
	case now >= p.refreshAt:
		k = Refresh
	default:
		return 0, max(p.refreshAt, p.notBefore)
	}
	if now < p.notBefore {
		return 0, p.notBefore
	}
	return k, 0
}

// Back-off after a failure, and after a refusal that will hardly change by itself. The
// first must stay well below 30 s: that is when a server that is back must be right.
const (
	failedFirst, failedMost   = 500 * time.Millisecond, 20 * time.Second
	refusedFirst, refusedMost = 30 * time.Second, time.Hour
	refusedStuck              = time.Minute
	// A server that grants more than this is asked again after it all the same.
	maxServerExpires = 24 * time.Hour
)

// settle takes the outcome of the outstanding request.
func (p *publication) settle(e *Engine, r Request, o Outcome) {
	p.outstanding = 0
	p.lastCode, p.lastReason = int16(o.Code), o.Reason
	e.noteOutcome(p, r, o)
	switch o.Result {
	case Accepted:
		p.accepted(e, r, o)
	case Gone:
		// Afresh at once, for the server is well. A 412 to a request without a tag makes
		// no sense, and is not raced.
		p.nothing()
		p.attempts, p.notBefore = 0, 0
		if r.Tag == "" {
			p.tries()
			p.notBefore = e.now + e.spread(failedMost)
			return
		}
		e.suspect(p.publisher)
	case Refused:
		p.unsure = true
		p.tries()
		most := refusedMost
		if p.has != Unknown && p.has != p.person.presence.State {
			most = refusedStuck // a lamp shows what is not so
		}
		p.notBefore = e.now + e.spread(backoff(int(p.attempts), refusedFirst, most))
	default:
		p.unsure = true
		p.tries()
		p.notBefore = e.now + e.spread(backoff(int(p.attempts), failedFirst, failedMost))
	}
}

// nothing notes that the server holds nothing of ours.
func (p *publication) nothing() { p.tag, p.has, p.unsure = "", Unknown, false }

func (p *publication) tries() {
	if p.attempts < math.MaxUint8 {
		p.attempts++
	}
}

// accepted notes what the server has now. Times count from the sending: the server may
// have started its clock then.
func (p *publication) accepted(e *Engine, r Request, o Outcome) {
	p.attempts, p.notBefore = 0, 0
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
	p.tag = o.Tag
	if r.Kind != Refresh {
		p.has = r.State
	}
	p.expires = p.sentAt + life
	// Between 60 and 80 % of the lifetime: spread, and with time for several tries.
	p.refreshAt = p.sentAt + life*6/10 + time.Duration(e.rand.Int64N(int64(life/5)+1))
}

// request builds the PUBLISH of a kind.
func (p *publication) request(e *Engine, k Kind) Request {
	r := Request{Kind: k, Presentity: p.person.uri, publication: p}
	if k != Initial {
		r.Tag = p.tag
	}
	if k != Remove {
		r.Expires = p.publisher.expires
		r.State = p.person.presence.State
	}
	if k != Remove {
		r.DisplayName = e.cfg.Directory.DisplayName(p.person.uri)
	}
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
// each once.
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
