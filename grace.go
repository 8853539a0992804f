package busylamp

import "time"

// askedLate bounds how long a claim stands that is waited for: its source works again, but has
// so many to be asked for that this one's turn has not come.
const askedLate = 15 * time.Minute

// graceFor lets a source's claim about somebody stand for the grace, and no longer: what it was
// known by is lost.
func (e *Engine) graceFor(who *person, src *source) {
	c := who.claimOf(src.Name)
	if c == nil {
		return
	}
	if c.lost == 0 {
		c.lost = max(e.now, 1)
	}
	e.until(who, c, min(c.Until, e.now+max(src.Grace, 1)))
}

// graceUnsaid does so for good: the source was asked, and has not said the claim again.
func (e *Engine) graceUnsaid(who *person, src *source) {
	if c := who.claimOf(src.Name); c != nil {
		c.unsaid = true
		e.graceFor(who, src)
	}
}

// spare lets a claim stand that is about to be stated anew.
func (e *Engine) spare(who *person, src *source) {
	if c := who.claimOf(src.Name); c != nil && c.lost > 0 && !c.unsaid && c.live(e.now) {
		e.until(who, c, min(c.own, c.lost+src.Grace+askedLate))
	}
}

func (e *Engine) until(who *person, c *Claim, until time.Duration) {
	c.Until = until
	e.rearm(who)
}

func (e *Engine) graceForAll(src *source) {
	for who := range src.claimed {
		e.graceFor(who, src)
	}
}

// spareUnasked gives a source that nobody asks the time to say again what it knows.
func (e *Engine) spareUnasked(src *source) {
	if src.info.Unasked {
		for who := range src.claimed {
			e.spare(who, src)
		}
	}
}
