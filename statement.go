package busylamp

import (
	"maps"
	"slices"
	"time"
)

// source is a system that knows of people's presence, and how it stands.
type source struct {
	SourceConfig
	index     int
	info      SourceInfo
	running   bool
	connector ConnectorState
	reason    string
	reads     []int // publishers
	throttle  throttle
	probeAt   time.Duration
	lanes     [2]queue[*subscription]
	words     map[string]int // subscriptions by the word that was told of them
	claimed   map[*person]struct{}
	ignored   uint64 // statements about those whom the source does not speak for
	stale     uint64 // statements with a lower number than an earlier one
}

// maxSources is as many as a person's set of bits has room for, beside the calls.
const maxSources = 63

// speaksCalls is the calls' bit of person.speaks.
const speaksCalls = 1 << maxSources

// maxClaimed bounds whom one source can speak of without having been asked.
const maxClaimed = 1_000_000

// maxAge is how long a statement holds that does not say for how long.
const maxAge = 24 * time.Hour

// speakers returns who is heard of a presentity.
func (e *Engine) speakers(uri Presentity) uint64 {
	if e.cfg.Speaks == nil {
		return 1<<(maxSources+1) - 1
	}
	var set uint64
	names := e.cfg.Speaks(uri)
	if slices.Contains(names, sourceCalls) {
		set = speaksCalls
	}
	for _, src := range e.sources {
		if slices.Contains(names, src.Name) {
			set |= 1 << src.index
		}
	}
	return set
}

func (who *person) hears(src *source) bool { return who.speaks&(1<<src.index) != 0 }

func (s *source) serves(uri Presentity) bool { return s.info.Serves == nil || s.info.Serves(uri) }

// claims notes whom a source has a claim about. Nobody (nil) are the built-in ones.
func (s *source) claims(who *person, has bool) {
	switch {
	case s == nil:
	case has:
		s.claimed[who] = struct{}{}
	default:
		delete(s.claimed, who)
	}
}

// Report takes what the source with an index in Config.Sources brings.
func (e *Engine) Report(source int, r SourceReport) {
	src := e.sources[source]
	if r.Up != nil {
		e.sourceUp(src, *r.Up)
	}
	if r.Connector != 0 {
		e.connect(src, r.Connector, r.Reason)
	}
	for _, sub := range r.Subscriptions {
		if who := e.byURI[sub.Presentity]; who != nil {
			if s := who.subscriptionTo(src); s != nil && s.state != NotRequested {
				s.report(e, sub)
			}
		}
	}
	for i := range r.Statements {
		e.state(src, &r.Statements[i])
	}
	if r.Down != "" {
		e.sourceDown(src, r.Down)
	}
	e.dispatch()
}

// sourceUp begins a source's life: everybody is asked for, and what failed before is forgotten.
func (e *Engine) sourceUp(src *source, info SourceInfo) {
	src.running, src.info = true, info
	e.tellConnector(src, 0, "")
	e.eachSubscription(src, func(s *subscription) { s.asked, s.sequence = false, 0 })
	e.beginAll(src)
	e.spareUnasked(src)
	for _, who := range slices.Clone(e.people) { // whom it does not watch need not wait for it
		e.settleTakeover(who)
	}
}

// sourceDown ends it. Its claims stay for the grace.
func (e *Engine) sourceDown(src *source, why string) {
	src.running = false
	src.lanes = [2]queue[*subscription]{}
	e.tellConnector(src, ConnectionError, why)
	e.graceForAll(src)
	e.eachSubscription(src, func(s *subscription) { s.turn(e, Waiting, why) })
}

// connect takes how a source stands with its system. When that works again, everybody is
// asked for anew: who knows what was missed. That the source failed used up nobody's tries.
func (e *Engine) connect(src *source, to ConnectorState, why string) {
	worked := src.connector.Works()
	e.tellConnector(src, to, why)
	switch {
	case to.Works() == worked:
	case to.Works():
		e.beginAll(src)
		e.spareUnasked(src)
	default:
		src.probeAt = e.now + probeEvery
		e.graceForAll(src)
	}
}

// beginAll asks for everybody afresh.
func (e *Engine) beginAll(src *source) {
	src.lanes = [2]queue[*subscription]{}
	e.eachSubscription(src, func(s *subscription) { s.begin(e) })
}

func (e *Engine) tellConnector(src *source, to ConnectorState, why string) {
	if src.connector != to {
		e.out.Statuses = append(e.out.Statuses, StatusChange{Source: src.Name, Old: src.connector.String(), New: to.String(), Reason: why})
	}
	src.connector, src.reason = to, why
}

func (e *Engine) eachSubscription(src *source, f func(*subscription)) {
	for _, who := range e.people {
		if s := who.subscriptionTo(src); s != nil {
			f(s)
		}
	}
}

// mayAsk tells whether a source can be asked for one more.
func (s *source) mayAsk(now time.Duration) bool {
	if s.lanes[0].len()+s.lanes[1].len() == 0 || !s.throttle.open(s.PerSecond, now) {
		return false
	}
	return s.connector.Works() || now >= s.probeAt
}

func (s *source) asked(now time.Duration) {
	s.throttle.take()
	s.probeAt = now + probeEvery
}

// pop takes the next subscription that waits, those first whose lamp may be lit.
func (s *source) pop() *subscription {
	for i := len(s.lanes) - 1; i >= 0; i-- {
		for q := &s.lanes[i]; q.len() > 0; {
			if sub := q.pop(); sub.waits {
				sub.waits = false
				return sub
			}
		}
	}
	return nil
}

// state takes a statement.
func (e *Engine) state(src *source, st *Statement) {
	who := e.speaksFor(src, st.Presentity)
	if who == nil {
		src.ignored++
		return
	}
	old, sub := who.claimOf(src.Name), who.subscriptionTo(src)
	if sub != nil && st.Sequence != 0 {
		if st.Sequence < sub.sequence {
			src.stale++
			return
		}
		sub.sequence = st.Sequence
	}
	c := Claim{Source: src.Name, State: e.asSeen(st.State), Since: e.now - max(st.Age, 0), Until: e.now + maxAge,
		telephony: st.Telephony, from: src}
	if st.For > 0 {
		c.Until = e.now + min(st.For, maxAge)
	}
	c.own = c.Until
	if st.Details != (Details{}) {
		d := st.Details
		c.details = &d
	}
	c.echo = src.echoes(e, who, &c, old)
	e.claim(who, c, reason{what: "source " + src.Name})
	if sub != nil {
		if sub.state == Requesting && c.State != Unknown { // to say something is an answer, too
			sub.turn(e, Subscribed, "")
		}
		e.tellSubscription(sub)
	}
	if !src.connector.Works() || sub != nil && !src.info.Unasked && (sub.state == NotRequested || sub.state > Subscribed) {
		e.graceUnsaid(who, src) // it cannot know for long
	}
	e.settleTakeover(who)
}

// speaksFor returns whom a source makes a statement about, nil if it is not heard of them.
func (e *Engine) speaksFor(src *source, uri Presentity) *person {
	who := e.byURI[uri]
	switch {
	case who != nil && who.hears(src) && src.serves(uri) && (src.info.Unasked || who.subscriptionTo(src) != nil):
		return who
	case !src.info.Unasked || !src.serves(uri) || len(src.claimed) >= maxClaimed:
		return nil
	}
	if ours, err := e.cfg.Directory.Presentity(string(uri)); err != nil || ours != uri || e.speakers(uri)&(1<<src.index) == 0 {
		return nil
	}
	return e.person(uri)
}

// asSeen is what a source's state means here: a call that it sees is not one of ours.
func (e *Engine) asSeen(s State) State {
	switch {
	case s == OnThePhone:
		return OtherCall
	case s == Ringing && !e.cfg.Early:
		return Available
	}
	return s
}

// SourceStatus is how a source stands, for people to look at.
type SourceStatus struct {
	Name      string
	Running   bool
	Connector string
	Reason    string
	Words     map[string]int // subscriptions by their state
	Waiting   int            // subscriptions that wait for their turn
	Claims    int
	Ignored   uint64 // statements about those whom the source does not speak for
	Stale     uint64 // statements that came after a newer one
}

// SourceStatuses returns how every source stands.
func (e *Engine) SourceStatuses() []SourceStatus {
	out := make([]SourceStatus, len(e.sources))
	for i, s := range e.sources {
		out[i] = SourceStatus{Name: s.Name, Running: s.running, Connector: s.connector.String(), Reason: s.reason, Words: maps.Clone(s.words),
			Waiting: s.lanes[0].len() + s.lanes[1].len(), Claims: len(s.claimed), Ignored: s.ignored, Stale: s.stale}
	}
	return out
}
