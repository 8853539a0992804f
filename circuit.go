package busylamp

import "time"

// A presence server that is dead is probed, and not hammered: as soon as nothing has been
// heard from it for a while although it was asked, or it said that it cannot serve, its
// publisher is down. Then one request is outstanding at a time, with a pause between two,
// while the others wait in their lanes and change with what is desired. The first answer
// lets all of them go. An answer of 5xx but 503 is no reason: it may be about one presentity.

const (
	// silence is how long a server that was asked may say nothing before it is down. The
	// requests under way go on: it may be slow, and a second one would make a second
	// publication.
	silence = 3 * time.Second
	// The pauses between two probes. The longest must stay well below 30 s: that is when
	// a server that is back must be right.
	probeFirst, probeMost = 500 * time.Millisecond, 5 * time.Second
	// maxRetryAfter bounds what a server may ask for.
	maxRetryAfter = time.Hour
)

// circuit is what a publisher knows of its server's health.
type circuit struct {
	down     bool
	since    time.Duration // when the wait for a word from the server began
	resumeAt time.Duration // nothing is sent before
	probes   int           // in vain, since it was last heard
}

// room returns how many more requests may be outstanding.
func (p *publisher) room(now time.Duration) int {
	switch {
	case now < p.circuit.resumeAt:
		return 0
	case p.circuit.down:
		return 1 - p.inFlight
	}
	return p.max - p.inFlight
}

// asked notes that a request goes out.
func (p *publisher) asked(now time.Duration) {
	if p.inFlight == 0 {
		p.circuit.since = now
	}
	p.inFlight++
}

// tickCircuit finds a server silent.
func (e *Engine) tickCircuit(p *publisher) {
	if c := &p.circuit; !c.down && p.inFlight > 0 && e.now-c.since >= silence {
		c.down = true
		e.trouble(p, "silent", "the presence server is silent; it is probed until it answers", "")
	}
}

// heard notes that the server answered, as one that can serve.
func (p *publisher) heard(now time.Duration) {
	p.circuit.down, p.circuit.since, p.circuit.probes = false, now, 0
}

// answersOthers tells whether a request without an answer is an exception: the server has
// been heard while it waited.
func (p *publisher) answersOthers(now, sentAt time.Duration) bool {
	return !p.circuit.down && now-sentAt >= silence && now-p.circuit.since < silence
}

// unavailable notes that the server cannot be reached, or cannot serve for now. Of the
// requests that were under way together, the first one counts.
func (e *Engine) unavailable(p *publisher, retryAfter time.Duration) {
	c := &p.circuit
	if !c.down || e.now >= c.resumeAt {
		c.probes++
		c.resumeAt = e.now + e.spread(backoff(c.probes, probeFirst, probeMost))
	}
	c.down = true
	if after := e.now + min(retryAfter, maxRetryAfter); retryAfter > 0 && after > c.resumeAt {
		c.resumeAt = after
	}
}
