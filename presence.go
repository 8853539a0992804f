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

// Precedence is the table by which claims fold: states, the strongest first. A state that
// is not in it is not heard.
type Precedence []State

// DefaultPrecedence returns the table where none is configured.
func DefaultPrecedence() Precedence {
	return Precedence{DoNotDisturb, Presenting, OnThePhone, OtherCall, Meeting, Busy, Ringing, Away, Available, Offline}
}

// rules are how claims become a presence, and a presence what is published.
type rules struct {
	rank      [states]uint8 // 0: not heard
	shown     [states]State // what is published; Unknown: nothing
	preferred string        // a source, "" for none
}

func newRules(order Precedence, shown map[State]State, preferred string) rules {
	r := rules{preferred: preferred}
	if order == nil {
		order = DefaultPrecedence()
	}
	for i, s := range order {
		r.rank[s] = uint8(len(order) - i)
	}
	for s := range State(states) {
		if s.Published() {
			r.shown[s] = s
		}
	}
	r.shown[OtherCall] = OnThePhone
	for s, as := range shown {
		r.shown[s] = as
	}
	return r
}

// part tells which claims somebody hears of, by their source and whether it is a phone's.
type part func(source string, telephony bool) bool

// telephony and rich are the two halves of a presence that some keep apart: what a phone
// does, and what its owner chose.
func telephony(_ string, telephony bool) bool { return telephony }
func rich(_ string, telephony bool) bool      { return !telephony }

// hears tells whether a claim is heard (nil hears all).
func (hears part) of(source string, telephony bool) bool {
	return hears == nil || hears(source, telephony)
}

// fold returns the presence that somebody's live claims amount to, of those that are heard:
// the strongest state wins, of equal ones that of the source with the higher priority, and
// then the newest.
func (r *rules) fold(who *person, now time.Duration, heard part) Presence {
	best := strongest{Presence: Presence{State: Available}}
	if who.inCall != Unknown && heard.of(sourceCalls, true) {
		best.weigh(r, Presence{State: who.inCall, Source: sourceCalls, Since: who.callSince}, 0)
	}
	preferred := r.preferredClaim(who.claims, now, heard)
	for i := range who.claims {
		c := &who.claims[i]
		if c.live(now) && !c.echo && heard.of(c.Source, c.telephony) && !preferred.mutes(c) {
			best.weigh(r, Presence{State: r.state(c), Source: c.Source, Since: c.Since}, c.priority())
		}
	}
	return best.Presence
}

// strongest is the claim that wins so far.
type strongest struct {
	Presence
	rank     uint8
	priority int
}

// weigh takes a claim if it is stronger.
func (best *strongest) weigh(r *rules, c Presence, priority int) {
	rank := r.rank[c.State]
	if rank == 0 || rank < best.rank || rank == best.rank && (priority < best.priority || priority == best.priority && c.Since <= best.Since) {
		return
	}
	*best = strongest{c, rank, priority}
}

// preferredClaim returns what the preferred source says, nil for nothing.
func (r *rules) preferredClaim(claims []Claim, now time.Duration, heard part) *Claim {
	if r.preferred == "" {
		return nil
	}
	for i := range claims {
		if c := &claims[i]; c.Source == r.preferred && c.live(now) && !c.echo && heard.of(c.Source, c.telephony) {
			return c
		}
	}
	return nil
}

// mutes tells whether a preferred claim keeps another from being heard: another plugin's, of
// the same half of a presence. A phone is on the phone, whatever its owner chose elsewhere.
func (c *Claim) mutes(other *Claim) bool {
	return c != nil && other.from != nil && other.from != c.from && other.telephony == c.telephony
}

// state is what a claim counts as: a forwarded phone is forwarded, whether it is busy or not,
// where that is a state.
func (r *rules) state(c *Claim) State {
	if c.details != nil && c.details.Forward != NotForwarded && r.rank[Forwarded] > r.rank[c.State] {
		return Forwarded
	}
	return c.State
}

func (c *Claim) priority() int {
	if c.from == nil {
		return 0
	}
	return c.from.Priority
}
