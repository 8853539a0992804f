package busylamp

import (
	"strings"
	"time"
)

// call is a dialog that is up, as far as we know.
type call struct {
	dialog         DialogID
	stage          Stage
	seq            uint32
	callID         string
	caller, callee *person
	since          time.Duration // when we learned of the present stage
	applied        uint64        // the engine's count of events when the call was first seen
	listed         uint64        // the last resync whose list held the call
	lapses         time.Duration // when the proxy itself gives the call up, as it last said; 0: unknown
}

// proxy is the calls of one SIP proxy in one of its lives, and what is in doubt.
type proxy struct {
	name  string
	index int
	epoch string
	calls map[DialogID]*call
	// tombs are dialogs that have ended. They keep a late or doubled start, and a list
	// that was made before the end, from reviving a call.
	tombs tombstones
	// former are calls of earlier lives: the next list tells which of them live on, and
	// until then nobody is cleared.
	former []*call

	connected bool
	since     time.Duration // when connected last changed
	resync    resync
}

// applyCall takes one event. It is commutative: the stage only advances, Ended is final,
// and of one stage the event with the later number says who takes part.
func (e *Engine) applyCall(p *proxy, ev CallEvent) {
	e.stats.Events++
	if ev.Stage == Ended {
		e.endCall(p, ev.Dialog, "call ended")
		return
	}
	if p.tombs.has(ev.Dialog) {
		e.stats.Late++
		return
	}
	if ev.Stage == Early && !e.cfg.Early {
		return
	}
	c := p.calls[ev.Dialog]
	switch {
	case c == nil:
		if len(p.calls) >= e.cfg.MaxCalls {
			e.stats.Overflow++
			return
		}
		e.clock++
		c = &call{dialog: ev.Dialog, applied: e.clock}
		p.calls[ev.Dialog] = c
		e.stats.Calls++
	case ev.Stage < c.stage, ev.Stage == c.stage && !serialAfter(ev.Seq, c.seq):
		e.stats.Late++
		return
	}
	e.setCall(p, c, ev)
}

func (e *Engine) setCall(p *proxy, c *call, ev CallEvent) {
	if ev.Stage != c.stage {
		c.since = e.now
	}
	caller, callee := c.caller, c.callee
	before := c.stage
	c.stage, c.seq = ev.Stage, ev.Seq
	if c.callID != ev.CallID {
		c.callID = strings.Clone(ev.CallID)
	}
	c.lapsesIn(ev.Lapses, e.now)
	c.caller = e.party(ev.Caller, SideCaller)
	c.callee = e.party(ev.Callee, SideCallee)
	// Join before leaving, so that who is in both never looks free in between.
	c.caller.join(c.stage)
	c.callee.join(c.stage)
	caller.leave(before)
	callee.leave(before)
	what := "call confirmed"
	if c.stage == Early {
		what = "call early"
	}
	why := reason{what: what, proxy: p.name, dialog: c.dialog, callID: c.callID}
	for _, who := range [...]*person{c.caller, c.callee, caller, callee} {
		e.claimCalls(who, why)
	}
}

// lapsesIn notes when the proxy itself gives the call up, if it said so.
func (c *call) lapsesIn(d, now time.Duration) {
	if d > 0 {
		c.lapses = now + d
	}
}

// confirm notes that the proxy has the call. If it does not say for how long, and its word of
// before is past, that was extended.
func (c *call) confirm(lapses, now time.Duration) {
	if c.lapses <= now {
		c.lapses = 0
	}
	c.lapsesIn(lapses, now)
}

// endCall ends a dialog, known or not, and buries it.
func (e *Engine) endCall(p *proxy, id DialogID, what string) {
	if dropped := p.tombs.add(id, e.now); dropped {
		e.stats.Overflow++
		e.doubt(p, "too many calls ended lately")
	}
	c := p.calls[id]
	if c == nil {
		e.stats.Late++
		return
	}
	delete(p.calls, id)
	e.release(p, c, what)
}

// release takes a call away from those who took part in it.
func (e *Engine) release(p *proxy, c *call, what string) {
	e.stats.Calls--
	c.caller.leave(c.stage)
	c.callee.leave(c.stage)
	why := reason{what: what, proxy: p.name, dialog: c.dialog, callID: c.callID}
	e.claimCalls(c.caller, why)
	e.claimCalls(c.callee, why)
}

// party returns the person whom a URI of a call names, nil for nobody.
func (e *Engine) party(uri string, side Sides) *person {
	if e.cfg.Sides&side == 0 || uri == "" || uri == "none" {
		return nil
	}
	who, err := e.cfg.Directory.Presentity(uri)
	if err != nil {
		if e.stats.BadURI++; e.stats.BadURI == 1 {
			e.note(false, "a party of a call cannot be a presentity (told once)", "uri", uri, err.Error())
		}
		return nil
	}
	if who == "" {
		if e.stats.Foreign++; e.stats.Foreign == 1 {
			e.note(false, "a party of a call is in none of the configured domains (told once)", "uri", uri, "")
		}
		return nil
	}
	if known := e.byURI[who]; known != nil {
		return known
	}
	return e.person(Presentity(strings.Clone(string(who)))) // without the event that it is part of
}

// claimCalls restates the claim that somebody's calls amount to.
func (e *Engine) claimCalls(who *person, why reason) {
	if who == nil {
		return
	}
	state := Unknown
	switch {
	case who.speaks&speaksCalls == 0:
	case who.endpoint != nil:
		state = who.endpoint.state(int(who.confirmed))
	case who.confirmed > 0:
		state = OnThePhone
	case who.early > 0:
		state = Ringing
	}
	if !e.stopping && who.setCalls(state, e.now) {
		e.refold(who, why)
	}
	e.forgetIdle(who)
}

// maxTombs bounds the dead that one proxy's book remembers.
const maxTombs = 1 << 18

// tombAge is how long the dead are remembered at least. It is far above the time that an
// event can spend on its way, and no list takes longer (resyncTimeout).
const tombAge = 2 * time.Minute

// tombstones is a set of dialogs that forgets its oldest.
type tombstones struct {
	set   map[DialogID]struct{}
	queue []tomb
	head  int
}

type tomb struct {
	dialog DialogID
	at     time.Duration
}

func (t *tombstones) has(id DialogID) bool { _, ok := t.set[id]; return ok }

// add buries a dialog and reports whether another had to be dropped early.
func (t *tombstones) add(id DialogID, now time.Duration) (dropped bool) {
	if t.has(id) {
		return false
	}
	if t.set == nil {
		t.set = make(map[DialogID]struct{})
	}
	if dropped = len(t.set) >= maxTombs; dropped {
		t.pop()
	}
	t.set[id] = struct{}{}
	t.queue = append(t.queue, tomb{id, now})
	return dropped
}

// sweep forgets those that were buried before a time.
func (t *tombstones) sweep(before time.Duration) {
	for t.head < len(t.queue) && t.queue[t.head].at < before {
		t.pop()
	}
}

func (t *tombstones) pop() {
	delete(t.set, t.queue[t.head].dialog)
	t.head++
	if t.head > len(t.queue)/2 {
		t.queue = append(t.queue[:0], t.queue[t.head:]...)
		t.head = 0
	}
}
