package busylamp

import (
	"fmt"
	"time"
)

// State is what a source says of a presentity. Which is stronger, the [Precedence] says.
type State uint8

// The states.
const (
	Unknown State = iota
	Offline
	Available
	Away
	Ringing // an early dialog; published only with early: publish
	Busy
	Meeting
	OnThePhone // a call through one of our proxies
	Presenting
	DoNotDisturb
	OtherCall // a call that another source sees
	Forwarded // who forwards calls, where that is a state and no flag

	states = iota
)

var stateNames = [states]string{"unknown", "offline", "available", "away", "ringing", "busy",
	"meeting", "on-the-phone", "presenting", "do-not-disturb", "other-call", "forwarded"}

func (s State) String() string {
	if s < states {
		return stateNames[s]
	}
	return stateNames[0]
}

// MarshalText gives the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes a state's name; another text is an error.
func (s *State) UnmarshalText(text []byte) error {
	for i, name := range stateNames {
		if name == string(text) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no state", text)
}

// Published reports whether a presence server is told of the state. The others are what
// a presentity is without us, and are published by publishing nothing.
func (s State) Published() bool { return s >= Away }

// Claim is what one source says of one presentity. It replaces that source's earlier
// claim about the presentity; it is never a delta.
type Claim struct {
	Source string
	State  State
	// Since is when the state began and Until when the claim lapses, in the engine's
	// time; an Until of zero never lapses.
	Since, Until time.Duration

	telephony bool
	from      *source       // nil: built in
	details   *Details      // nil: none
	own       time.Duration // what Until is while the source is well: see grace.go
	lost      time.Duration // when it was not any more, 0 while it is
	unsaid    bool          // its source was asked since, and has not said it again
	echo      bool          // it may be our own word come back: see echo.go
	judgeAt   time.Duration // when that is looked at again, 0 for not yet
}

// sourceCalls is the built-in source: the calls that proxies tell of.
const sourceCalls = "calls"

// live tells whether a claim holds.
func (c *Claim) live(now time.Duration) bool { return c.Until == 0 || c.Until > now }
