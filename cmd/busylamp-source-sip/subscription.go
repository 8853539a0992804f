package main

import (
	"math/rand/v2"
	"time"

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
	bare     bool          // a list's: it has been accepted, and no list has come

	expiry   time.Time // when the notifier lets it end; zero: not known
	notifyBy time.Time // Timer N: a NOTIFY is due until then; zero: none is
	refresh  time.Time // when the next SUBSCRIBE is due; zero: none is
	listBy   time.Time // a list's: those who wait for the first document wait until then; zero: nobody does
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

// fail ends a subscription that its notifier does not have, or not any more.
func (s *sub) fail(now time.Time, why verdict) step {
	s.phase, s.refresh, s.notifyBy, s.again = idle, time.Time{}, time.Time{}, false
	st := step{told: why}
	if s.leaving || s.fork {
		st = step{over: true}
	}
	if why.state == plugin.AccessDenied || why.state == plugin.NotFound {
		s.hearing = hearing{} // whoever may not be seen is not shown either
		st.voice = true
	}
	return st
}

// tick does what is due.
func (s *sub) tick(now time.Time) step {
	reached := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	switch {
	case reached(s.listBy):
		s.listBy = time.Time{}
		s.bare = s.group != nil && !s.group.settled
		return step{voice: s.bare}
	case reached(s.review):
		s.reconsider(now)
		return step{voice: true}
	case s.phase == opening && reached(s.outlasts()):
		s.hearing = hearing{}
		return step{voice: true}
	case s.phase == idle:
		var st step
		if reached(s.voice.until) {
			s.hearing = hearing{}
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
	if !s.gone {
		soonest(s.listBy)
		soonest(s.review)
		if s.phase == opening {
			soonest(s.outlasts())
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
