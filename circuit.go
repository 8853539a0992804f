package busylamp

import "time"

// A presence server that is dead is probed, and not hammered. When nothing has been heard
// from it for a while although it was asked, its publisher is down: then requests go out
// one at a time, with pauses between them that grow, while the others wait in their lanes
// and change with what is desired. Each probe is of another presentity, for it may be one
// request alone that the server does not answer. The first answer lets all of them go.
// So it is with a server that fails at everything (5xx), until it accepts something.

const (
	// silence is how long a server that was asked may say nothing before it is down. The
	// requests under way go on: it may be slow, and a second one would make a second
	// publication.
	silence = 3 * time.Second
	// silenceTold is when people are told: a while later, since an adapter that knows other
	// addresses of the server tries them first.
	silenceTold = 6 * time.Second
	// The pauses between two probes. The longest must stay well below 30 s: that is when
	// a server that is back must be right.
	probeFirst, probeMost = 500 * time.Millisecond, 5 * time.Second
	// failuresInRow is how many answers of 5xx on end, with nothing accepted between them
	// for as long as silence, stand for the whole server.
	failuresInRow = 32
	// maxRetryAfter bounds what a server may ask for.
	maxRetryAfter = time.Hour
)

// circuit is what a publisher knows of its server's health.
type circuit struct {
	down       bool
	since      time.Duration // when the wait for a word from the server began
	probeAt    time.Duration // no probe before
	probes     int           // since it was last heard
	resumeAt   time.Duration // nothing at all before: the server asked for it
	acceptedAt time.Duration // when it last accepted something
	failures   int           // answers of 5xx on end
}

// hasRoom tells whether one more request may go out.
func (p *publisher) hasRoom(now time.Duration) bool {
	c := &p.circuit
	return p.inFlight < p.max && now >= c.resumeAt && (!c.down || now >= c.probeAt)
}

// asked notes that a request goes out.
func (e *Engine) asked(p *publisher) {
	if p.inFlight == 0 {
		p.circuit.since = e.now
	}
	p.inFlight++
	if p.circuit.down {
		e.pauseProbes(p)
	}
}

func (e *Engine) pauseProbes(p *publisher) {
	c := &p.circuit
	c.probes++
	c.probeAt = e.now + e.spread(backoff(c.probes, probeFirst, probeMost))
}

// tickCircuit finds a server silent.
func (e *Engine) tickCircuit(p *publisher) {
	if p.inFlight == 0 {
		return
	}
	waited := e.now - p.circuit.since
	if waited >= silence {
		p.circuit.down = true
	}
	if waited >= silenceTold {
		e.trouble(p, "silent", "the presence server is silent; it is probed until it answers", "")
	}
}

// heard notes that the server answered.
func (e *Engine) heard(p *publisher, r Result) {
	c := &p.circuit
	c.since = e.now
	switch r {
	case Failed, Unavailable:
		if c.failures++; c.failures >= failuresInRow && e.now-c.acceptedAt >= silence {
			e.unreachable(p)
			return
		}
	case Accepted:
		c.acceptedAt = e.now
		fallthrough
	default:
		c.failures = 0
	}
	c.down, c.probes = false, 0
}

// unreachable notes that the server cannot be had, or is of no use.
func (e *Engine) unreachable(p *publisher) {
	if !p.circuit.down {
		p.circuit.down = true
		e.pauseProbes(p)
	}
}

// suspend stops everything for as long as the server asks for (RFC 3261 section 21.5.4),
// and then probes.
func (e *Engine) suspend(p *publisher, retryAfter time.Duration) {
	c := &p.circuit
	c.down = true
	c.resumeAt = max(c.resumeAt, e.now+min(retryAfter, maxRetryAfter))
}
