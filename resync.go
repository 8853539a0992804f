package busylamp

import (
	"fmt"
	"slices"
	"time"
)

// resync is how a proxy's book is brought in line with the proxy's own list. At most one
// is under way; whoever asks meanwhile gets another one after it, since the list that is
// being made may be too old for him.
type resync struct {
	id      uint64 // of the one under way or the last one
	running bool
	wanted  bool
	why     string // it is wanted
	cause   string // of the one under way or the last one
	asked   uint64 // the engine's count of events when the list was asked for
	epoch   string
	began   time.Duration
	at      time.Duration // when to audit
	rest    time.Duration // when to ask next at the soonest
	tries   int

	done     time.Duration // when the last one ended well, 0: none yet
	unlisted bool          // no list of this life of the proxy has come yet
	counted  bool          // the differences of a list whose details failed have been
	healed   int           // differences that this one found
	lapseAt  time.Duration // when to look for calls that have lapsed
	inStep   bool          // no resync is needed or under way since then
	doubtAt  time.Duration // since when it is not in step
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

var driftNotes = [driftKinds]string{"the end of a call was lost", "the start of a call was lost", "the answer to a call was lost"}

// maxDriftNotes bounds what one resync tells: after a long cut there is much of it.
const maxDriftNotes = 16

// failedAudits on end put a proxy out of step, though nothing is known to be lost.
const failedAudits = 3

// auditing is why a resync is made that nothing asks for.
const auditing = "audit"

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
	r.asked, r.epoch, r.cause, r.healed = e.clock, p.epoch, r.why, 0
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
			e.drift(p, DriftUnseen, d.Dialog, "")
		case d.Stage > c.stage:
			c.listed = id
			e.drift(p, DriftStage, d.Dialog, c.callID)
		default:
			c.listed = id
			c.confirm(d.Lapses, e.now)
			continue
		}
		work.Wanted = append(work.Wanted, d)
	}
	r.counted = true // the next try finds them again
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
			e.drift(p, DriftAbsent, c.dialog, c.callID)
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
	if r.healed > maxDriftNotes {
		e.note(false, "drift healed; not each one is told", "proxy", p.name, fmt.Sprintf("%d differences after: %s", r.healed, r.cause))
	}
	r.running, r.unlisted, r.counted, r.tries, r.done = false, false, false, 0, max(e.now, 1)
	if r.inStep = !r.wanted; r.wanted {
		r.doubtAt = r.began // what was true when the list was asked for is known
	}
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
	r.running, r.wanted = false, true
	r.tries++
	r.rest = e.now + e.spread(backoff(r.tries, time.Second, 15*time.Second))
}

// tickProxy lets time pass for one proxy.
func (e *Engine) tickProxy(p *proxy) {
	p.tombs.sweep(e.now - tombAge)
	e.tickDoubt(p)
	if !p.connected {
		return
	}
	if r := &p.resync; !r.wanted && !r.running && e.now >= r.at {
		r.wanted, r.why = true, auditing
	}
	e.askList(p)
}

// fallOut notes since when a proxy's book is in doubt.
func (r *resync) fallOut(now time.Duration) {
	if r.inStep {
		r.inStep, r.doubtAt = false, now
	}
}

// A proxy that is away for longer than lapseDoubt still ends its calls by itself when they
// time out (Kamailio's dialog timeout): those are released then, after a moment of grace. (One
// that is connected says so itself.) The rest is released after Config.Hold.
const (
	lapseDoubt = time.Minute
	lapseGrace = 30 * time.Second
	lapseEvery = 10 * time.Second
)

// tickDoubt releases calls that have been in doubt for too long.
func (e *Engine) tickDoubt(p *proxy) {
	r := &p.resync
	if r.inStep || e.now-r.doubtAt < min(lapseDoubt, e.cfg.Hold) {
		return
	}
	switch since := r.doubtAt; {
	case e.now-since >= e.cfg.Hold:
		r.doubtAt = e.now // of those that began since
		e.forget(p, "the proxy could not be asked about them for too long", func(c *call) bool { return c.since <= since })
	case !p.connected && e.now >= r.lapseAt:
		r.lapseAt = e.now + lapseEvery
		e.forget(p, "they have timed out, and the proxy cannot be asked about them",
			func(c *call) bool { return c.lapses != 0 && c.lapses+lapseGrace <= e.now })
	}
}

// forget releases calls of a proxy that cannot be asked. They are not buried: should it
// come back and still have them, they live.
func (e *Engine) forget(p *proxy, why string, over func(*call) bool) {
	n := 0
	p.former = slices.DeleteFunc(p.former, func(c *call) bool {
		if !over(c) {
			return false
		}
		n++
		e.release(p, c, "proxy not heard for too long")
		return true
	})
	for id, c := range p.calls {
		confirmed := p.resync.running && c.listed == p.resync.id // by the list whose details are awaited
		if over(c) && !confirmed {
			n++
			delete(p.calls, id)
			e.release(p, c, "proxy not heard for too long")
		}
	}
	if n > 0 {
		e.note(true, "calls released: "+why, "proxy", p.name, fmt.Sprint(n, " calls"))
	}
}

// drift counts a difference that a resync heals and tells of it, unless there are many.
// What the first list of a proxy's life brings is news and no drift.
func (e *Engine) drift(p *proxy, kind Drift, id DialogID, callID string) {
	r := &p.resync
	if r.unlisted || r.counted && kind != DriftAbsent {
		return
	}
	e.stats.Drift[kind]++
	if r.healed++; r.healed <= maxDriftNotes {
		e.note(false, "drift healed: "+driftNotes[kind], "proxy", p.name,
			reason{what: "after: " + r.cause, proxy: p.name, dialog: id, callID: callID}.String())
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
	p.resync.unlisted = true
}
