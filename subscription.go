package busylamp

import (
	"slices"
	"time"
)

// subscription is the watching of one presentity by one source: there is one, whoever asks.
type subscription struct {
	who       *person
	source    *source
	state     SubscriptionState
	reason    string        // why it is in this state, for people
	since     time.Duration // when it came into it
	notBefore time.Duration // when it is asked for again
	wakeAt    time.Duration // when to look again, 0 for never; see clocks.go
	told      string        // the last word that was told of it
	failures  uint16        // in a row, at every endpoint
	short     uint8         // lives in a row that were over at once
	endpoint  uint8
	waits     bool // in one of the source's lanes
	urgent    bool // which: that of those whose lamp may be lit
	gaveUp    bool
	asked     bool   // the source knows of it
	sequence  uint64 // of the last statement, in the source's life
}

const (
	// askTime is how long a source may take to say how the watching of somebody goes. RFC
	// 6665's Timer N is 32 s; this bounds a source that keeps no such time.
	askTime = time.Minute
	// shortLife is the life of a subscription that is no success: a server that accepts and
	// terminates is not asked in a circle.
	shortLife = 10 * time.Second
	// probeEvery is how often a source without a connection is asked for somebody all the
	// same, in case it finds out in no other way.
	probeEvery = 30 * time.Second
)

// watcher is who asks for a presentity's presence.
type watcher struct {
	name  string
	until time.Duration // 0: until it says otherwise
}

// Watch has every source that speaks for a presentity watch it, on behalf of somebody: for so
// long from now, or with 0 until [Engine.Unwatch].
func (e *Engine) Watch(uri Presentity, asker string, long time.Duration) {
	who := e.person(uri)
	w := watcher{name: asker}
	if long > 0 {
		w.until = e.now + long
	}
	who.extend()
	who.watchers = append(slices.DeleteFunc(who.watchers, func(w watcher) bool { return w.name == asker }), w)
	e.rearm(who)
	for _, src := range e.sources {
		if s := who.subscriptionTo(src); s != nil && s.gaveUp {
			s.begin(e)
		} else if s == nil && who.hears(src) {
			s := &subscription{who: who, source: src}
			s.tell(s.word())
			who.subs = append(who.subs, s)
			s.begin(e)
		}
	}
	e.dispatch()
}

// Unwatch ends what [Engine.Watch] began, when nobody else asks.
func (e *Engine) Unwatch(uri Presentity, asker string) {
	if who := e.byURI[uri]; who != nil {
		e.dismiss(who, func(w watcher) bool { return w.name == asker })
		e.dispatch()
	}
}

// dismiss lets watchers go. Without any there is no subscription.
func (e *Engine) dismiss(who *person, gone func(watcher) bool) {
	if len(who.watchers) == 0 {
		return
	}
	who.watchers = slices.DeleteFunc(who.watchers, gone)
	if len(who.watchers) > 0 {
		return
	}
	uri := who.uri
	for _, s := range who.subs {
		if s.asked {
			e.out.Watches = append(e.out.Watches, WatchWork{Source: s.source.index, Unwatch: []Presentity{uri}})
		}
		s.turn(e, NotRequested, "")
		s.tell("")
		if s.source.info.Unasked {
			continue
		}
		e.claim(who, Claim{Source: s.source.Name, State: Unknown}, reason{what: "watched no more"})
	}
	who.subs = nil
	who.shed()
	e.forgetIdle(who)
}

// tell counts a subscription under another word, "" for none.
func (s *subscription) tell(word string) {
	words := s.source.words
	if words[s.told]--; words[s.told] <= 0 {
		delete(words, s.told)
	}
	if s.told = word; word != "" {
		words[word]++
	}
}

func (who *person) subscriptionTo(src *source) *subscription {
	for _, s := range who.subs {
		if s.source == src {
			return s
		}
	}
	return nil
}

// begin asks for a presentity afresh, if its source runs: what failed before is forgotten.
func (s *subscription) begin(e *Engine) {
	s.failures, s.short, s.endpoint, s.gaveUp, s.notBefore = 0, 0, 0, false, 0
	s.turn(e, NotRequested, "")
	if src := s.source; src.running && !src.info.Unasked && src.serves(s.who.uri) {
		s.queue(e, "")
	}
	e.tellSubscription(s)
}

// turn changes the state. Who was in a lane is skipped there.
func (s *subscription) turn(e *Engine, to SubscriptionState, why string) {
	s.state, s.reason, s.since, s.waits = to, why, e.now, false
	s.wakeAt = 0
}

// clock has the subscription looked at again at a time.
func (s *subscription) clock(e *Engine, at time.Duration) {
	s.wakeAt = at
	e.rearm(s.who)
}

// queue has the subscription wait for its turn: before the others, if a lamp may be lit for
// what is known so far.
func (s *subscription) queue(e *Engine, why string) {
	s.turn(e, Waiting, why)
	lane := 0
	if s.urgent = s.who.litBy(s.source.Name); s.urgent {
		lane = 1
	}
	s.waits = true
	s.source.lanes[lane].push(s)
	if s.source.running && s.source.connector.Works() {
		e.spare(s.who, s.source)
	}
}

// litBy tells whether a source's claim, or what was taken over, may light a lamp.
func (who *person) litBy(source string) bool {
	for _, name := range [...]string{source, sourceTakeover} {
		if c := who.claimOf(name); c != nil && c.State.Published() {
			return true
		}
	}
	return false
}

// dispatchSources asks for those whose turn has come.
func (e *Engine) dispatchSources() {
	if e.stopping {
		return
	}
	for _, src := range e.sources {
		for src.running && src.mayAsk(e.now) {
			w := WatchWork{Source: src.index}
			for len(w.Watch) < max(src.info.Batch, 1) {
				s := src.pop()
				if s == nil {
					break
				}
				w.Watch = append(w.Watch, s.ask(e))
			}
			if len(w.Watch) == 0 {
				break
			}
			src.asked(e.now)
			e.stats.Watches += uint64(len(w.Watch))
			e.out.Watches = append(e.out.Watches, w)
		}
	}
}

// ask makes a target of a subscription whose turn has come.
func (s *subscription) ask(e *Engine) Target {
	s.turn(e, Requesting, "")
	s.asked = true
	s.clock(e, e.now+askTime)
	e.tellSubscription(s)
	t := Target{Presentity: s.who.uri, Endpoint: int(s.endpoint)}
	if e.cfg.UPN != nil {
		t.UPN = e.cfg.UPN(s.who.uri)
	}
	return t
}

// report takes how the watching goes of somebody who was asked for. What comes besides, such
// as a second failure, changes nothing.
func (s *subscription) report(e *Engine, r SubscriptionReport) {
	if s.state != Requesting && s.state != Subscribed {
		return
	}
	switch r.State {
	case Requesting:
		if s.state == Subscribed {
			s.turn(e, Requesting, r.Reason)
			s.clock(e, e.now+askTime)
		}
	case Subscribed:
		if s.state == Requesting {
			s.turn(e, Subscribed, r.Reason)
			s.gaveUp = false
			if c := s.who.claimOf(s.source.Name); c != nil && c.lost > 0 {
				e.graceUnsaid(s.who, s.source) // it is stated anew now, or never
			}
		}
	case Terminated:
		s.terminated(e, r)
	case AccessDenied, NotFound, SubscriptionError:
		s.failed(e, r)
	default:
		return
	}
	e.tellSubscription(s)
	e.settleTakeover(s.who)
}

// lived tells whether the subscription was more than accepted: only then it was a success.
func (s *subscription) lived(e *Engine) bool {
	return s.state == Subscribed && e.now-s.since >= shortLife
}

// terminated asks again at once, or when the server wishes it; later and later, if it takes
// to ending what it has just accepted.
func (s *subscription) terminated(e *Engine, r SubscriptionReport) {
	if s.lived(e) {
		s.short, s.failures = 0, 0
	}
	wait := min(r.RetryAfter, s.source.MaxFailedDelay)
	if s.short > 0 {
		wait = max(wait, backoff(int(s.short), time.Second, s.source.FailedDelay))
	}
	s.short = min(s.short+1, 100)
	e.graceFor(s.who, s.source)
	s.later(e, Waiting, r.Reason, wait)
}

// failed tries the next endpoint at once, and when all have failed, after a delay, all of
// them again. Where the source itself has failed, no presentity has.
func (s *subscription) failed(e *Engine, r SubscriptionReport) {
	e.graceUnsaid(s.who, s.source)
	src := s.source
	if s.lived(e) {
		s.failures = 0
	}
	switch {
	case !src.running || !src.connector.Works():
		s.queue(e, r.Reason)
	case int(s.endpoint)+1 < src.info.Endpoints:
		s.endpoint++
		s.queue(e, r.Reason)
	default:
		s.endpoint = 0
		s.failures = min(s.failures+1, 10_000)
		if src.MaxFailures > 0 && int(s.failures) > src.MaxFailures {
			s.gaveUp = true
			s.turn(e, r.State, r.Reason)
			return
		}
		s.later(e, r.State, r.Reason, max(min(r.RetryAfter, src.MaxFailedDelay), backoff(int(s.failures), src.FailedDelay, src.MaxFailedDelay)))
	}
}

// later stays in a state until the subscription is asked for again.
func (s *subscription) later(e *Engine, state SubscriptionState, why string, wait time.Duration) {
	if wait <= 0 {
		s.queue(e, why)
		return
	}
	s.turn(e, state, why)
	s.notBefore = e.now + wait
	s.clock(e, s.notBefore)
}

// wake is called when the source has said nothing for too long, or when it is time to try
// again.
func (s *subscription) wake(e *Engine) {
	switch {
	case s.state == Requesting:
		s.failed(e, SubscriptionReport{State: SubscriptionError, Reason: "the source has not answered"})
		e.tellSubscription(s)
	case !s.waits:
		s.queue(e, s.reason)
	}
}

// word is the state as administrators know it: of one who is watched, what is seen.
func (s *subscription) word() string {
	switch s.state {
	case AccessDenied:
		return "access denied"
	case NotFound:
		return "not found"
	case SubscriptionError:
		return "error"
	}
	if c := s.who.claimOf(s.source.Name); c != nil {
		return c.word()
	}
	switch s.state {
	case NotRequested:
		return "not requested"
	case Subscribed:
		return "nothing known"
	}
	return "requesting"
}

// word is a claim's state as administrators know it: do-not-disturb hides that somebody is
// forwarded, which hides whether he is busy.
func (c *Claim) word() string {
	forward := NotForwarded
	if c.details != nil {
		forward = c.details.Forward
	}
	switch {
	case c.State == DoNotDisturb:
		return "do not disturb"
	case forward == ToVoiceMail:
		return "forwarded to voice mail"
	case forward == ToNumber:
		return "forwarded to number"
	case c.State == Available || c.State == Away || c.State == Offline:
		return c.State.String()
	default:
		return "busy"
	}
}

// StatusChange is a new word for a source, or for how it sees a presentity.
type StatusChange struct {
	Source     string
	Presentity Presentity // "" for the source itself
	Old, New   string
	Reason     string // for people
}

// tellSubscription tells of a new word. One who is asked for again after a failure keeps that
// word until there is an answer.
func (e *Engine) tellSubscription(s *subscription) {
	word := s.word()
	if word == s.told || word == "requesting" && slices.Contains(failedWords, s.told) {
		return
	}
	e.out.Statuses = append(e.out.Statuses, StatusChange{Source: s.source.Name, Presentity: s.who.uri, Old: s.told, New: word, Reason: s.reason})
	s.tell(word)
}

var failedWords = []string{"access denied", "not found", "error"}
