package sipnet

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// spread is the time over which the requests that wait are sent again when a silent server
// is heard again. One packet each, all at once, would be a burst that nobody asked for.
const spread = 300 * time.Millisecond

// askLast is the part of what counts as silence, the last third, that is left to the server
// to answer OPTIONS: it may be one request alone that it never answers.
const askLast = 3

// watch knows whether a server is silent. Not the age of one request counts, nor the time
// without traffic, but the time that requests have waited without any being heard of. The
// path's mutex guards it.
type watch struct {
	limit   time.Duration // tempo.silence
	waiting int
	since   time.Time     // of the present wait without a word, if any wait
	before  time.Duration // what earlier ones add to it
	asked   bool          // it is time that the server is asked for a word
	silent  bool
	next    time.Time     // when the next retransmission into the silence is due
	slow    bool          // the last silence was no death: an answer came long after what it is to
	changed chan struct{} // closed and replaced when silent becomes false
	timer   *time.Timer   // runs while armed, to notice
	armed   bool
}

func (w *watch) init(limit time.Duration, overdue func()) {
	w.limit = limit
	w.changed = make(chan struct{})
	w.timer = time.AfterFunc(time.Hour, overdue)
	w.timer.Stop()
}

func (w *watch) stop() { w.timer.Stop() }

// enter and leave count those who wait.
func (w *watch) enter(now time.Time) {
	if w.waiting++; w.waiting > 1 {
		return
	}
	w.since = now
	if !w.silent && !w.armed {
		w.armed = true
		w.timer.Reset(w.due() - w.before)
	}
}

func (w *watch) leave(now time.Time) {
	if w.waiting--; w.waiting == 0 {
		w.before += now.Sub(w.since)
	}
}

// hear notes that the server has said something: an answer to what was sent so long before,
// or 0 for what is none.
func (w *watch) hear(now time.Time, after time.Duration) {
	w.since, w.before, w.asked = now, 0, false
	if w.silent {
		w.silent, w.slow = false, after >= t1
		close(w.changed)
		w.changed = make(chan struct{})
		if w.waiting > 0 {
			w.armed = true
			w.timer.Reset(w.due())
		}
	}
}

// due is how long a wait without a word goes on before something is done about it.
func (w *watch) due() time.Duration {
	if w.asked {
		return w.limit
	}
	return w.limit - w.limit/askLast
}

// overdue runs when the timer does, which is not wound up again for each request: it looks
// how much there is left. It tells when the server is to be asked for a word, and when the
// silence has begun.
func (w *watch) overdue(now time.Time) (ask, silent bool) {
	w.armed = false
	if w.waiting == 0 || w.silent {
		return false, false
	}
	left := w.due() - w.before - now.Sub(w.since)
	if left <= 0 && w.asked {
		w.silent, w.next = true, now
		return false, true
	}
	if left <= 0 {
		ask, w.asked = true, true
		left = w.limit / askLast // all of it, though the timer be late
	}
	w.armed = true
	w.timer.Reset(left)
	return ask, false
}

func (p *path) overdue(quiet func(p *path, silent bool)) {
	p.mu.Lock()
	ask, silent := p.watch.overdue(time.Now())
	p.mu.Unlock()
	if ask || silent {
		quiet(p, silent)
	}
}

// errSilence is why a silent server is left.
func (p *path) errSilence() error {
	return fmt.Errorf("nothing heard from %s for %v", p.addr, p.tempo.silence)
}

// expect says that from now on the server owes an answer. It returns what is closed when a
// silent server is heard again.
func (p *path) expect(w *waiter) (heard <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !w.watched {
		w.watched, w.sent = true, time.Now()
		p.watch.enter(w.sent)
	}
	return p.watch.changed
}

// heardAgain returns what is closed when a silent server is heard again.
func (p *path) heardAgain() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.watch.changed
}

// resume returns when a request that waited in a silence is to be sent again after it: soon,
// if the server was dead. One that is slow has most of them, and answers each in its turn; to
// send them again helps nobody, and makes second publications at a server that has forgotten
// its first answer by then (Kamailio's wt_timer is 5 s, not the 32 s of RFC 3261's Timer J).
func (p *path) resume() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watch.slow {
		return t2 + soon()
	}
	return soon()
}

// turn says whether a request whose time has come may be sent again, or else when to ask
// once more. Into a silence goes no more than one request's retransmissions, those of
// whichever comes first: one of them may be the very one that the server never answers.
// interval is the time to the next one.
func (p *path) turn(w *waiter, interval time.Duration) (mine bool, later time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.watch.silent {
		if now.Before(p.watch.next) {
			return false, p.watch.next.Sub(now)
		}
		p.watch.next = now.Add(interval)
	}
	w.sent = now
	return true, 0
}

// soon is a moment within spread.
func soon() time.Duration { return rand.N(spread) }
