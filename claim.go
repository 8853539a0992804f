package busylamp

import (
	"fmt"
	"time"
)

// State is what a source says of a presentity. The order is the default precedence,
// strongest last: the fold takes the greatest.
type State uint8

// The states, weakest first.
const (
	Unknown State = iota
	Offline
	Available
	Away
	Ringing // an early dialog; claimed only with early: publish
	Busy
	Meeting
	OnThePhone
	Presenting
	DoNotDisturb
)

var stateNames = [...]string{"unknown", "offline", "available", "away", "ringing", "busy",
	"meeting", "on-the-phone", "presenting", "do-not-disturb"}

func (s State) String() string {
	if int(s) < len(stateNames) {
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
}

// sourceCalls is the built-in source: the calls that proxies tell of.
const sourceCalls = "calls"
