package busylamp

import (
	"slices"
	"time"
)

// Somebody has several clocks: his claims and watchers lapse, his publications are to be
// refreshed or tried again, his subscriptions to be asked for. Each of them is a time, and the
// person is in the wheel once, for the first.

// isDue tells whether a clock that is set (not 0) has run down.
func isDue(at, now time.Duration) bool { return at > 0 && at <= now }

// rearm sets somebody's alarm to the first of his clocks.
func (e *Engine) rearm(who *person) {
	if next := who.nextWake(); next > 0 && !who.forgotten() {
		e.wheel.set(who, next)
	}
}

// sooner returns the earlier of two clocks, 0 if neither is set.
func sooner(next, at time.Duration) time.Duration {
	if at > 0 && (next == 0 || at < next) {
		return at
	}
	return next
}

// nextWake returns when the first of somebody's clocks runs down; 0 for never.
func (who *person) nextWake() time.Duration {
	next := who.nextLapse()
	for i := range who.pubs {
		next = sooner(next, who.pubs[i].wakeAt)
	}
	for _, s := range who.subs {
		next = sooner(next, s.wakeAt)
	}
	return next
}

// nextLapse returns when the next of somebody's claims or watchers lapses, or a claim is to be
// looked at again; 0 for never.
func (who *person) nextLapse() (next time.Duration) {
	for i := range who.claims {
		next = sooner(next, who.claims[i].Until)
		next = sooner(next, who.claims[i].judgeAt)
	}
	for i := range who.watchers {
		next = sooner(next, who.watchers[i].until)
	}
	return next
}

// wake does what somebody's clocks say.
func (who *person) wake(e *Engine) {
	for i := range who.pubs {
		if p := &who.pubs[i]; isDue(p.wakeAt, e.now) {
			p.wakeAt = 0
			e.plan(p)
		}
	}
	for _, s := range who.subs {
		if isDue(s.wakeAt, e.now) {
			s.wakeAt = 0
			s.wake(e)
		}
	}
	if isDue(who.nextLapse(), e.now) {
		who.lapse(e)
	}
	e.rearm(who)
	e.forgetIdle(who)
}

// lapse drops the claims and the watchers that have lapsed.
func (who *person) lapse(e *Engine) {
	if len(who.watchers) > 0 {
		e.dismiss(who, func(w watcher) bool { return isDue(w.until, e.now) })
	}
	if len(who.claims) > 0 {
		who.claims = slices.DeleteFunc(who.claims, func(c Claim) bool {
			lapsed := !c.live(e.now)
			if lapsed {
				c.from.claims(who, false)
			}
			return lapsed
		})
		who.shed()
	}
	who.judge(e)
	e.settleTakeover(who)
	e.refold(who, reason{what: "claim lapsed"})
	for _, s := range who.subs {
		e.tellSubscription(s)
	}
}
