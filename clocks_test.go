package busylamp

import (
	"testing"
	"time"
)

// TestNextClock: when one of somebody's clocks has run down the next one runs on, whatever the
// first one changed.
func TestNextClock(t *testing.T) {
	for _, c := range []struct {
		name          string
		first, second Claim
	}{
		{"the weaker claim lapses first", Claim{Source: "a", State: Available, Until: 10 * time.Second}, Claim{Source: "b", State: OnThePhone, Until: 20 * time.Second}},
		{"the stronger claim lapses first", Claim{Source: "a", State: OnThePhone, Until: 10 * time.Second}, Claim{Source: "b", State: Ringing, Until: 20 * time.Second}},
	} {
		b := newBudgeted(t)
		who := Presentity("sip:alice@example.com")
		b.Claim(who, c.first)
		b.Claim(who, c.second)
		for b.now < 30*time.Second {
			b.Advance(b.now + wheelTick)
			b.answer()
		}
		if v, ok := b.View(who); ok && (v.State != Available || b.Live() != 0) {
			t.Errorf("%s: 10 s after the second has lapsed: %+v, %d publications", c.name, v, b.Live())
		}
	}
}
