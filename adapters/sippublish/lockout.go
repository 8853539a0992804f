package sippublish

import (
	"sync"
	"time"

	"github.com/busylamp/busylamp"
)

// lockout keeps us from being locked out: a server that refuses our credentials refuses
// them for everybody, and one that counts failed logins must not be given one for each
// user of each call.
type lockout struct {
	mu    sync.Mutex
	pause time.Duration
	until time.Time
}

// The pause after a refusal of our credentials, and after the refusals that follow it.
const lockoutFirst, lockoutMost = 30 * time.Second, 10 * time.Minute

// settle turns the refusal of our credentials into one of the whole server, for a while.
func (l *lockout) settle(o busylamp.Outcome, now time.Time) busylamp.Outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.Code != 401 && o.Code != 407 {
		if o.Result == busylamp.Accepted {
			l.pause = 0
		}
		return o
	}
	if !now.Before(l.until) { // else it was under way together with the one before
		l.pause = min(max(2*l.pause, lockoutFirst), lockoutMost)
		l.until = now.Add(l.pause)
	}
	o.Result = busylamp.Unavailable
	o.RetryAfter = max(o.RetryAfter, l.until.Sub(now))
	return o
}
