package busylamp

import (
	"fmt"
	"time"
)

// resync is how a proxy's book is brought in line with the proxy's own list. At most one
// is under way; whoever asks meanwhile gets another one after it, since the list that is
// being made may be too old for him.
type resync struct {
	id      uint64 // of the one under way or the last one
	running bool
	wanted  bool
	why     string
	asked   uint64 // the engine's count of events when the list was asked for
	epoch   string
	began   time.Duration
	at      time.Duration // when to audit
	rest    time.Duration // when to ask next at the soonest
	tries   int

	done    time.Duration // when the last one ended well, 0: none yet
	inStep  bool          // no resync is needed or under way since then
	doubtAt time.Duration // since when it is not in step
}

// resyncTimeout bounds one resync. It is below tombAge, so that no list outlives a
// tombstone.
const resyncTimeout = 90 * time.Second

// resyncRest is the shortest time between two resyncs of a proxy.
const resyncRest = 500 * time.Millisecond

// Drift is a difference that a resync found and healed.
type Drift uint8

// The kinds of drift.
const (
	DriftAbsent Drift = iota // we knew a call that the proxy does not: its end was lost
	DriftUnseen              // the proxy knows a call that we did not: its start was lost
	DriftStage               // the proxy's call is further than ours
	driftKinds
)

// doubt asks for a resync of a proxy.
func (e *Engine) doubt(p *proxy, why string) {
	p.resync.fallOut(e.now)
	p.resync.wanted, p.resync.why = true, why
	e.askList(p)
}

// askList starts the resync that is wanted, unless one is under way or the proxy is away.
func (e *Engine) askList(p *proxy) {
	r := &p.resync
	if !r.wanted || r.running || !p.connected || e.now < r.rest {
		return
	}
	r.wanted, r.running, r.began = false, true, e.now
	r.id++
	r.asked, r.epoch = e.clock, p.epoch
	e.stats.Resyncs++
	e.out.Lists = append(e.out.Lists, ListWork{Proxy: p.index, ID: r.id, Why: r.why})
}

// listed takes a proxy's list: known calls are confirmed, and the unknown ones are asked
// for in detail. Nobody is cleared yet, for among the unknown may be the same people.
func (e *Engine) listed(p *proxy, id uint64, l Listing) {
	r := &p.resync
	if !r.running || r.id != id {
		return
	}
	if l.Epoch != p.epoch {
		e.resyncFailed(p, id, "the list is of another life of the proxy")
		return
	}
	work := DetailWork{Proxy: p.index, ID: id}
	for _, d := range l.Live {
		if d.Stage == Early && !e.cfg.Early || p.tombs.has(d.Dialog) {
			continue
		}
		c := p.calls[d.Dialog]
		switch {
		case c == nil:
			e.stats.Drift[DriftUnseen]++
		case d.Stage > c.stage:
			c.listed = id
			e.stats.Drift[DriftStage]++
		default:
			c.listed = id
			continue
		}
		work.Wanted = append(work.Wanted, d)
	}
	e.out.Details = append(e.out.Details, work)
}

// resynced ends a resync well: calls that began before the list was asked for, and are
// not in it, are over; so are those of the proxy's former lives.
func (e *Engine) resynced(p *proxy, id uint64) {
	r := &p.resync
	if !r.running || r.id != id {
		return
	}
	if r.epoch != p.epoch {
		e.resyncFailed(p, id, "the proxy restarted meanwhile")
		return
	}
	for _, c := range p.calls {
		if c.listed != id && c.applied <= r.asked {
			e.stats.Drift[DriftAbsent]++
			e.endCall(p, c.dialog, "call absent from the proxy's list")
		}
	}
	for _, c := range p.former {
		e.release(p, c, "call of the proxy's former life")
	}
	p.former = nil
	if r.tries > 0 {
		e.note(false, "the proxy answers again", "proxy", p.name, "")
	}
	r.running, r.tries, r.done = false, 0, max(e.now, 1)
	r.inStep = !r.wanted
	// A proxy that takes long is audited seldom, and one that loses events all the time is
	// not asked all the time: as long as it took, so long it is left alone.
	took := e.now - r.began
	r.at = e.now + e.spread(max(e.cfg.Audit, 100*took))
	r.rest = e.now + min(max(took, resyncRest), 10*time.Second)
	e.endTakeover()
	e.askList(p)
}

// resyncFailed ends a resync that learned nothing, and tries again later.
func (e *Engine) resyncFailed(p *proxy, id uint64, why string) {
	r := &p.resync
	if !r.running || r.id != id {
		return
	}
	e.stats.ResyncsFailed++
	if r.tries == 0 {
		e.note(true, "cannot ask the proxy for its calls; nobody is cleared until it answers", "proxy", p.name, why)
	}
	r.running, r.wanted, r.why = false, true, "retry: "+why
	r.tries++
	r.rest = e.now + e.spread(backoff(r.tries, time.Second, 15*time.Second))
}

// tickProxy lets time pass for one proxy.
func (e *Engine) tickProxy(p *proxy) {
	p.tombs.sweep(e.now - tombAge)
	if !p.resync.inStep && e.now-p.resync.doubtAt >= e.cfg.Hold {
		e.forgetDoubtful(p)
	}
	if !p.connected {
		return
	}
	if r := &p.resync; !r.wanted && !r.running && e.now >= r.at {
		r.wanted, r.why = true, "audit"
	}
	e.askList(p)
}

// fallOut notes since when a proxy's book is in doubt.
func (r *resync) fallOut(now time.Duration) {
	if r.inStep {
		r.inStep, r.doubtAt = false, now
	}
}

// forgetDoubtful releases the calls that have been in doubt for too long, because the
// proxy cannot be asked: those that began before the doubt did.
func (e *Engine) forgetDoubtful(p *proxy) {
	n := len(p.former)
	for _, c := range p.former {
		e.release(p, c, "proxy not heard for too long")
	}
	p.former = nil
	for _, c := range p.calls {
		if c.since <= p.resync.doubtAt {
			n++
			e.endCall(p, c.dialog, "proxy not heard for too long")
		}
	}
	p.resync.doubtAt = e.now
	if n > 0 {
		e.note(true, "calls released: the proxy could not be asked about them for too long", "proxy", p.name, fmt.Sprint(n, " calls"))
	}
}

// newLife makes a proxy's calls those of a former life and begins with an empty book.
func (p *proxy) newLife(epoch string) {
	for _, c := range p.calls {
		p.former = append(p.former, c)
	}
	p.calls = make(map[DialogID]*call)
	p.tombs = tombstones{}
	p.epoch = epoch
}
