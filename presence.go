package busylamp

import "time"

// Presence is one presentity's state: all claims folded into one.
type Presence struct {
	State State
	// Source is the source whose claim won, "" when there is none.
	Source string
	// Since is when the state began, in the engine's time.
	Since time.Duration
}

// fold returns the presence that live claims amount to: the strongest state wins, and of
// equal ones the newest.
func fold(claims []Claim, now time.Duration) Presence {
	best := Presence{State: Available}
	for _, c := range claims {
		if c.Until != 0 && c.Until <= now || c.State <= Offline {
			continue
		}
		if c.State > best.State || c.State == best.State && c.Since > best.Since {
			best = Presence{State: c.State, Source: c.Source, Since: c.Since}
		}
	}
	return best
}
