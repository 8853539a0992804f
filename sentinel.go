package busylamp

import "time"

// A presence server that restarts with an empty table tells nobody. Its publishers would
// learn of it when they refresh, minutes later, and until then everybody looks free. So
// every few seconds one publication, the one that was proven longest ago, is refreshed as
// a sentinel; and when a server does not know a tag that it should (412), a few more are
// refreshed at once. If the whole table is gone, each of those answers 412 as well, and
// the suspicion runs through all publications within seconds; if it was the one
// publication, it stops there. A server that keeps forgetting is asked for each
// publication once in suspicionEvery at most.

const (
	sentinelEvery  = 5 * time.Second
	sentinelAge    = 10 * time.Second // no publication is proven more often
	suspicionEvery = 10 * time.Second
	suspects       = 4    // refreshed for each unexpected 412
	sentinelSample = 64   // the sentinel is the oldest of so many
	maxScan        = 1024 // people looked at in one go
)

// tickPublisher looks at the server's health, and sends the sentinel when it is due.
func (e *Engine) tickPublisher(pub *publisher) {
	e.tickCircuit(pub)
	if e.now < pub.sentinelAt {
		return
	}
	pub.sentinelAt = e.now + sentinelEvery
	if !pub.sentinel {
		return
	}
	var oldest *publication
	e.scan(pub, sentinelSample, e.now-sentinelAge, func(p *publication) {
		if oldest == nil || p.sentAt < oldest.sentAt {
			oldest = p
		}
	})
	if oldest != nil {
		e.refreshNow(oldest)
	}
}

// suspect refreshes some publications because the server has lost one.
func (e *Engine) suspect(pub *publisher) {
	if e.now-pub.suspectAt >= suspicionEvery || pub.suspectAt == 0 {
		pub.suspectAt = e.now
	}
	e.scan(pub, suspects, pub.suspectAt, e.refreshNow)
}

func (e *Engine) refreshNow(p *publication) {
	p.refreshAt = e.now
	e.plan(p)
}

// scan calls f with the next n publications that a server should have and whose last
// proof is not after a time.
func (e *Engine) scan(pub *publisher, n int, before time.Duration, f func(*publication)) {
	for range min(len(e.people), maxScan) {
		if n == 0 {
			return
		}
		if pub.cursor >= len(e.people) {
			pub.cursor = 0
		}
		p := &e.people[pub.cursor].pubs[pub.index]
		pub.cursor++
		if p.has != Unknown && p.outstanding == 0 && p.waits == 0 && p.sentAt <= before {
			f(p)
			n--
		}
	}
}
