package busylamp

import (
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"
)

// simProxy is the truth of one proxy, and what it has told.
type simProxy struct {
	index  int
	epoch  int
	seq    uint32
	nextID uint32
	calls  map[DialogID]simCall

	connected bool
	told      int           // the epoch that the engine was told
	askedAt   time.Duration // when the engine last asked for a list
	listedAt  time.Duration // when it asked for the last one that it got
	lost      bool          // an event was lost and the engine not yet told
	writeOff  uint32        // numbers up to it were written off when that was noticed
	wire      []CallEvent   // raised, not delivered
	delivered []CallEvent   // may come again
	agedAt    time.Duration
}

type simCall struct {
	serial         int // never used twice
	stage          Stage
	caller, callee string
	until          time.Duration // when the proxy gives it up; 0: never
	told           time.Duration // as the engine knows it
}

type simList struct {
	work  ListWork
	taken *Listing
}

type simDetail struct {
	work   DetailWork
	epoch  int         // that the engine was told when the list came
	events []CallEvent // read from the proxy, not yet delivered
	read   int         // of work.Wanted
}

// tell notes what the engine was told of a call's time-out.
func (p *simProxy) tell(id DialogID, lapses, now time.Duration) {
	c, up := p.calls[id]
	if !up {
		return
	}
	if c.told <= now {
		c.told = 0
	}
	if lapses > 0 {
		c.told = now + lapses
	}
	p.calls[id] = c
}

// giveUp ends resyncs that take too long, as the loop does.
func (w *world) giveUp() {
	late := func(proxy int) bool { return w.now-w.proxies[proxy].askedAt > listTime }
	for len(w.lists) > 0 && late(w.lists[0].work.Proxy) || len(w.lists) == 0 && len(w.details) > 0 && late(w.details[0].work.Proxy) {
		w.stepResync(true)
		w.settle()
	}
}

// maxWay is how long an event is on its way at most: well below tombAge.
const maxWay = time.Minute

// age has events arrive that have been on their way for long, and those never come again.
func (w *world) age() {
	for _, p := range w.proxies {
		if w.now-p.agedAt < maxWay/2 {
			continue
		}
		p.agedAt = w.now
		for len(p.wire) > 0 {
			w.deliver(p, 0)
		}
		p.delivered = nil
	}
}

// timeOut ends the calls that have come to their end at their proxy.
func (w *world) timeOut() {
	for _, p := range w.proxies {
		for id, c := range p.calls {
			if c.until != 0 && c.until <= w.now {
				w.bye(p, id)
			}
		}
	}
}

// bye ends a call.
func (w *world) bye(p *simProxy, id DialogID) {
	confirmed := p.calls[id].stage == Confirmed
	delete(p.calls, id)
	if confirmed || w.cfg.Early {
		p.raise(id, Ended)
	}
}

// raise writes an event to a proxy's wire.
func (p *simProxy) raise(id DialogID, stage Stage) {
	p.seq++
	ev := CallEvent{Dialog: id, Stage: stage, Seq: p.seq}
	if stage != Ended {
		c := p.calls[id]
		ev.Caller, ev.Callee, ev.CallID = c.caller, c.callee, fmt.Sprint("call", c.serial)
	}
	if p.connected {
		p.wire = append(p.wire, ev)
	}
}

// invert swaps the stamps of a dialog's last two events, as workers that race do: an end
// can carry the lower number.
func (p *simProxy) invert() {
	n := len(p.wire) - 1
	if n < 1 {
		return
	}
	for i := n - 1; i >= 0; i-- {
		if p.wire[i].Dialog == p.wire[n].Dialog {
			p.wire[i].Seq, p.wire[n].Seq = p.wire[n].Seq, p.wire[i].Seq
			return
		}
	}
}

func (w *world) pickProxy(t *rapid.T) *simProxy { return rapid.SampledFrom(w.proxies).Draw(t, "proxy") }

func (p *simProxy) pickCall(t *rapid.T) (DialogID, bool) {
	ids := make([]DialogID, 0, len(p.calls))
	for id := range p.calls {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return DialogID{}, false
	}
	slices.SortFunc(ids, func(a, b DialogID) int { return int(a.ID) - int(b.ID) })
	return rapid.SampledFrom(ids).Draw(t, "call"), true
}

// deliver hands the i-th event of a proxy's wire to the engine.
func (w *world) deliver(p *simProxy, i int) {
	ev := p.wire[i]
	p.wire = slices.Delete(p.wire, i, i+1)
	p.delivered = append(p.delivered, ev)
	w.apply(p, ev)
}

func (w *world) apply(p *simProxy, ev CallEvent) {
	if c, ok := p.calls[ev.Dialog]; ok && ev.Stage == Confirmed && ev.CallID == fmt.Sprint("call", c.serial) {
		if _, known := w.known[c.serial]; !known {
			w.known[c.serial] = w.now
		}
	}
	w.e.Calls(p.index, []CallEvent{ev})
	if ev.Seq <= p.writeOff {
		w.e.Doubt(p.index, "an event after it was written off")
	}
}

// lose loses the first n events of the wire from the i-th on.
func (p *simProxy) lose(i, n int) {
	if n = min(n, len(p.wire)-i); n > 0 {
		p.wire = slices.Delete(p.wire, i, i+n)
		p.lost = true
	}
}

// notice tells the engine of a loss, as the adapter does when a hole in the numbers stays
// open: whatever has not arrived by then is written off.
func (w *world) notice(p *simProxy) {
	if p.lost {
		p.lost, p.writeOff = false, p.seq
		w.e.Doubt(p.index, "events lost")
	}
}

func (w *world) connect(p *simProxy) {
	p.connected, p.writeOff, p.told = true, 0, p.epoch
	w.e.Connected(p.index, fmt.Sprint(p.epoch))
}

func (w *world) disconnect(p *simProxy) {
	p.connected, p.lost = false, false
	p.wire, p.delivered = nil, nil // what was on its way is gone, and nothing is doubled later
	w.e.Disconnected(p.index)
}

// restart ends a proxy's life. Some calls survive, as with a dialog database.
func (w *world) restart(p *simProxy, survive bool) {
	if p.connected {
		w.disconnect(p)
	}
	p.epoch++
	p.seq = 0
	if !survive {
		clear(p.calls)
	}
}

// stepResync moves a resync on by one step: the list is taken, delivered, a dialog is
// read, the details are delivered.
func (w *world) stepResync(fail bool) {
	if len(w.lists) > 0 {
		l := &w.lists[0]
		p := w.proxies[l.work.Proxy]
		switch {
		case fail || !p.connected:
			w.e.ResyncFailed(p.index, l.work.ID, "no answer")
			w.lists = w.lists[1:]
		case l.taken == nil:
			l.taken = &Listing{Epoch: fmt.Sprint(p.epoch)}
			for id, c := range p.calls {
				d := Listed{Dialog: id, Stage: c.stage}
				if w.dumps && c.until != 0 {
					d.Lapses = c.until - w.now
				}
				l.taken.Live = append(l.taken.Live, d)
			}
		default:
			for _, d := range l.taken.Live {
				p.tell(d.Dialog, d.Lapses, w.now)
			}
			w.e.Listed(p.index, l.work.ID, *l.taken)
			w.lists = w.lists[1:]
		}
		return
	}
	if len(w.details) > 0 {
		w.stepDetails(fail)
	}
}

func (w *world) stepDetails(fail bool) {
	d := &w.details[0]
	p := w.proxies[d.work.Proxy]
	switch {
	case fail || !p.connected:
		w.e.ResyncFailed(p.index, d.work.ID, "no answer")
		w.details = w.details[1:]
	case d.read < len(d.work.Wanted):
		id := d.work.Wanted[d.read].Dialog
		d.read++
		if c, ok := p.calls[id]; ok {
			ev := CallEvent{Dialog: id, Stage: c.stage, Caller: c.caller, Callee: c.callee, CallID: fmt.Sprint("call", c.serial)}
			if c.until != 0 {
				ev.Lapses = c.until - w.now
			}
			d.events = append(d.events, ev)
		}
	default:
		for _, ev := range d.events {
			p.tell(ev.Dialog, ev.Lapses, w.now)
		}
		w.e.Detailed(p.index, d.work.ID, d.events)
		w.e.Resynced(p.index, d.work.ID)
		if d.epoch == p.told {
			p.listedAt = p.askedAt
		}
		w.details = w.details[1:]
	}
}
