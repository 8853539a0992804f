package main

import (
	"time"

	"github.com/emiago/sipgo/sip"
)

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
