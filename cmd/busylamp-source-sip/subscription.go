package main

import (
	"math/rand/v2"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp/plugin"
)

// Limits of what a notifier may say.
const (
	maxExpires   = 24 * time.Hour // of a subscription
	defaultRetry = 30 * time.Second
	freshPause   = 10 * time.Second // between two fresh dialogs of one subscription
)

// slack is how long a claim outlives its subscription: the time for a refresh whose answer
// and NOTIFY are under way.
const slack = 5 * time.Second

type phase uint8

const (
	idle    phase = iota // nobody asks for it: it never began, or has ended
	opening              // there is no NOTIFY in its dialog yet
	active
	kept   // the notifier ended it because nothing will change (RFC 6665 section 4.1.3, invariant)
	ending // it is wanted no more, and its notifier is to hear so
)

// sub is one subscription (RFC 6665 section 4.1): a machine that is told what comes and what
// time it is, and says what is to be done. It knows no sockets and no clock.
type sub struct {
	// What never changes.
	pkg     *eventPackage
	uri     string // Request-URI and To
	account int
	list    bool // the resource is a list (RFC 4662)
	timeN   time.Duration
	leg     *leg   // whom it speaks of; nil for a list's
	group   *group // the list; nil for a presentity's
	rand    func() float64

	phase    phase
	dialog   dialog
	wanted   time.Duration // Expires to ask for
	inFlight bool          // a SUBSCRIBE is not answered yet
	again    bool          // another one is to follow it
	leaving  bool          // it opens, and is to be ended as soon as there is a dialog
	fork     bool          // it came by a NOTIFY from another fork of somebody's SUBSCRIBE
	adopted  bool          // wanted comes from a 423
	noted    bool          // a NOTIFY has said until when, after the last SUBSCRIBE
	refused  verdict       // how the last refresh failed
	failures int           // such, in a row
	freshAt  time.Time     // when its dialog began
	renewed  time.Time     // when one was last replaced

	expiry   time.Time // when the notifier lets it end; zero: not known
	notifyBy time.Time // Timer N: a NOTIFY is due until then; zero: none is
	refresh  time.Time // when the next SUBSCRIBE is due; zero: none is
	due      time.Time // when tick is to be called, as wind has found; zero: never
	slot     int       // its place in the timers, from 1; 0: none

	indexed string // the Call-ID that it is found by
	gone    bool   // it has been forgotten

	hearing // what its NOTIFYs say
}

// step is what a subscription wants to be done.
type step struct {
	send  bool    // its next SUBSCRIBE is to go
	told  verdict // how it goes now; state 0: as before
	apply bool    // what the NOTIFY carries is to be taken
	voice bool    // what it says has changed, were it only until when
	over  bool    // it can be forgotten
	old   *sub    // its former dialog, to be ended beside; nil: none
}

// verdict is how a subscription goes, for the host.
type verdict struct {
	state  plugin.SubscriptionState
	reason string
	retry  time.Duration
	never  bool // asking again is of no use: the package is not supported
}

// open begins a subscription, in a dialog of its own.
func (s *sub) open(now time.Time) step {
	s.fresh(now)
	s.refused, s.failures, s.adopted = verdict{}, 0, false
	return s.sending(step{})
}

// fresh takes a new dialog.
func (s *sub) fresh(now time.Time) {
	s.dialog = newDialog()
	s.phase, s.leaving, s.freshAt = opening, false, now
	s.refresh, s.notifyBy = time.Time{}, time.Time{}
	s.table = nil
}

// sending asks for a SUBSCRIBE, at once or after the one that is out.
func (s *sub) sending(st step) step {
	if s.inFlight {
		s.again = true
		return st
	}
	s.inFlight, s.refresh = true, time.Time{}
	st.send = true
	return st
}

// next returns the SUBSCRIBE that goes now. Timer N runs from here (RFC 6665 section 4.1.2.4).
func (s *sub) next(now time.Time) outgoing {
	s.dialog.cseq++
	expires := s.wanted
	if s.phase == ending {
		expires = 0
	}
	s.notifyBy, s.noted = now.Add(s.timeN), false
	return outgoing{dialog: s.dialog, pkg: s.pkg, uri: s.uri, list: s.list, expires: expires, account: s.account}
}

// ask refreshes a subscription that the host asks for anew.
func (s *sub) ask(now time.Time) step {
	switch s.phase {
	case active:
		return s.sending(step{})
	case opening:
		return step{}
	}
	return s.open(now)
}

// close ends a subscription. It is over at once where no notifier knows of it.
func (s *sub) close() step {
	switch {
	case s.phase == active, s.phase == opening && !s.inFlight && s.dialog.remote != "":
		s.phase = ending
		return s.sending(step{})
	case s.phase == opening && s.inFlight:
		s.leaving = true // there is nobody yet to send the end to
		return step{}
	case s.phase == ending:
		return step{}
	}
	s.phase = idle
	return step{over: true}
}

// skip takes a SUBSCRIBE back that has waited for its turn, and returns whether there is no
// need of it any more: the subscription was never asked for, and is wanted no longer.
func (s *sub) skip() bool {
	if !s.leaving || s.phase != opening || s.dialog.cseq > 0 {
		return false
	}
	s.inFlight, s.phase = false, idle
	return true
}

// forked returns a subscription for another fork of this one's SUBSCRIBE that has sent a
// NOTIFY: dialog state is spread over a user's phones (RFC 4235 section 3.9).
func (s *sub) forked() *sub {
	other := *s
	other.dialog = dialog{callID: s.dialog.callID, tag: s.dialog.tag, cseq: s.dialog.cseq, local: s.dialog.local}
	other.phase, other.fork, other.inFlight, other.again, other.leaving = opening, true, false, false, false
	other.refused, other.failures, other.hearing = verdict{}, 0, hearing{}
	other.slot, other.indexed = 0, ""
	other.expiry, other.notifyBy, other.refresh = time.Time{}, time.Time{}, time.Time{}
	return &other
}

// retire takes the dialog away to be ended beside, before a fresh one begins; nil if there
// is none whose notifier needs to be told.
func (s *sub) retire() *sub {
	if s.phase != active || s.dialog.remote == "" {
		return nil
	}
	old := *s
	old.leg, old.group, old.hearing = nil, nil, hearing{}
	old.slot, old.indexed = 0, ""
	old.phase, old.again, old.inFlight = ending, false, false
	return &old
}

// renew replaces a dialog that its notifier has forgotten, or in which no sense is to be made
// any more: then once in a while at most. What was said goes on.
func (s *sub) renew(now time.Time, forgotten bool) step {
	if next := s.renewed.Add(freshPause); now.Before(next) && !forgotten {
		s.refresh = next
		s.dialog.lost = true
		return step{}
	}
	if s.fork {
		return s.sending(step{}) // there is no other way to its one
	}
	var st step
	if !forgotten {
		st.old = s.retire()
	}
	s.fresh(now)
	s.renewed = now
	return s.sending(st)
}

// answered takes the answer to the SUBSCRIBE that is out, or that there was none.
func (s *sub) answered(now time.Time, a answer) step {
	s.inFlight = false
	if a.dialog != s.dialog.callID { // it was of a dialog that has been replaced
		return s.followUp(now, step{})
	}
	s.dialog.cseq = max(s.dialog.cseq, a.cseq) // challenges count, too
	if a.local.IsValid() {
		s.dialog.local = a.local
	}
	switch s.phase {
	case opening:
		return s.followUp(now, s.opened(now, a))
	case active:
		return s.followUp(now, s.refreshed(now, a))
	case ending:
		if a.code/100 != 2 {
			return step{over: true}
		}
		if s.again {
			return s.followUp(now, step{})
		}
		s.notifyBy = now.Add(defaultRetry) // for the last NOTIFY, which ends it
	}
	return step{}
}

// followUp sends what had to wait for an answer.
func (s *sub) followUp(now time.Time, st step) step {
	if !s.again || st.send || st.over {
		return st
	}
	s.again = false
	if s.phase == opening || s.phase == active || s.phase == ending {
		return s.sending(st)
	}
	return st
}

// opened takes the answer to a SUBSCRIBE in whose dialog no NOTIFY has come.
func (s *sub) opened(now time.Time, a answer) step {
	switch {
	case a.code/100 == 2:
		s.dialog.confirm(a)
		s.granted(now, a)
		if s.leaving {
			s.phase = ending
			return s.sending(step{})
		}
		return step{}
	case s.leaving:
		return step{over: true}
	case s.tooBrief(a):
		return s.sending(step{})
	}
	return s.fail(now, refusal(s.pkg, a))
}

// tooBrief adopts the Min-Expires of a 423, once (RFC 6665 section 4.1.2.1).
func (s *sub) tooBrief(a answer) bool {
	if a.code != sip.StatusIntervalToBrief || s.adopted || a.minExpires <= s.wanted || a.minExpires > maxExpires {
		return false
	}
	s.wanted, s.adopted = a.minExpires, true
	return true
}

// refreshed takes the answer to a refresh (RFC 6665 section 4.1.2.2).
func (s *sub) refreshed(now time.Time, a answer) step {
	switch {
	case a.code/100 == 2:
		s.dialog.confirm(a)
		s.granted(now, a)
		s.refused, s.failures = verdict{}, 0
		return step{voice: true}
	case s.tooBrief(a):
		return s.sending(step{})
	case a.code == sip.StatusCallTransactionDoesNotExists && !s.fork:
		return s.renew(now, true)
	case ends(a.code):
		return s.fail(now, refusal(s.pkg, a))
	}
	// It is as good as it was until it ends (section 4.1.2.2), and is asked for again.
	s.refused = refusal(s.pkg, a)
	s.failures++
	s.notifyBy = time.Time{}
	wait := max(defaultRetry<<min(s.failures-1, 5), s.refused.retry)
	s.refresh = now.Add(wait*3/4 + s.spread(wait/2))
	return step{}
}

// soon brings the next refresh forward: something has happened to the way to the notifier.
func (s *sub) soon(at time.Time) {
	if s.phase == active && !s.inFlight && (s.refresh.IsZero() || at.Before(s.refresh)) {
		s.refresh = at
	}
}

// later has an ended subscription begin again by itself, at a time, or not at all (zero).
func (s *sub) later(at time.Time) {
	if s.phase == idle {
		s.refresh = at
	}
}

// comeback is when a subscription that its notifier has ended may begin again: at once, but not
// again and again.
func (s *sub) comeback(now time.Time, retry time.Duration) time.Time {
	at := now.Add(retry)
	if soonest := s.freshAt.Add(freshPause); at.Before(soonest) {
		at = soonest
	}
	return at
}

// ends returns whether an answer to a refresh says that the subscription is gone: those of
// RFC 6665 section 4.1.2.2, and 6xx.
func ends(code int) bool {
	switch code {
	case 404, 405, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501:
		return true
	}
	return code >= 600
}

// granted takes a 2xx, unless the NOTIFY that came before it has said more.
func (s *sub) granted(now time.Time, a answer) {
	if !s.noted {
		s.grant(now, a.expires)
	}
}

// grant takes until when the notifier keeps the subscription, and settles when it is to be
// refreshed: well before, and at a time of its own, so that thousands that began together do
// not come due together.
func (s *sub) grant(now time.Time, expires time.Duration) {
	if expires <= 0 {
		expires = s.wanted
	}
	expires = min(expires, maxExpires)
	s.expiry = now.Add(expires)
	s.voice.until = s.expiry
	s.refresh = now.Add(expires*6/10 + s.spread(expires/4))
}

func (s *sub) spread(d time.Duration) time.Duration { return time.Duration(s.rand() * float64(d)) }

// fail ends a subscription that its notifier does not have, or not any more.
func (s *sub) fail(now time.Time, why verdict) step {
	s.phase, s.refresh, s.notifyBy, s.again = idle, time.Time{}, time.Time{}, false
	st := step{told: why}
	if s.leaving || s.fork {
		st = step{over: true}
	}
	if why.state == plugin.AccessDenied || why.state == plugin.NotFound {
		s.voice = voice{} // whoever may not be seen is not shown either
		st.voice = true
	}
	return st
}

// tick does what is due.
func (s *sub) tick(now time.Time) step {
	reached := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	switch {
	case s.phase == idle:
		var st step
		if reached(s.voice.until) {
			s.voice = voice{}
			st.voice = true
		}
		if reached(s.refresh) {
			st.send = s.open(now).send
		}
		return st
	case s.phase == kept:
		return s.fail(now, verdict{state: plugin.Terminated, reason: "the subscription has ended: invariant"})
	case reached(s.notifyBy) && !s.inFlight:
		return s.unheard(now)
	case s.phase == active && reached(s.expiry) && !s.inFlight && (s.refresh.IsZero() || s.refresh.After(s.expiry)):
		why := s.refused
		if why.state == 0 {
			why = verdict{state: plugin.Terminated, reason: "the subscription has expired"}
		}
		return s.fail(now, why)
	case reached(s.refresh):
		if s.dialog.lost {
			return s.renew(now, false)
		}
		return s.sending(step{})
	}
	return step{}
}

// unheard is the end of Timer N: no NOTIFY has followed a SUBSCRIBE.
func (s *sub) unheard(now time.Time) step {
	s.notifyBy = time.Time{}
	switch {
	case s.phase == ending:
		return step{over: true}
	case s.phase == opening:
		return s.fail(now, verdict{state: plugin.Failed, reason: "no NOTIFY within " + s.timeN.String() + " of an accepted SUBSCRIBE (Timer N)"})
	case s.fork:
		return s.fail(now, verdict{})
	}
	return s.renew(now, false)
}

// wind settles when the next tick is due.
func (s *sub) wind() {
	var at time.Time
	soonest := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	switch {
	case s.gone:
	case s.phase == idle:
		soonest(s.voice.until)
		soonest(s.refresh)
	case s.phase == kept:
		soonest(s.expiry)
	case !s.inFlight: // else the answer says what is next
		soonest(s.notifyBy)
		soonest(s.refresh)
		if s.phase == active {
			soonest(s.expiry)
		}
	}
	s.due = at
}

func random() float64 { return rand.Float64() }
