package busylamp

import "time"

// bucket is a token bucket: it lets rate requests a second out, in bursts of a tenth of a
// second's worth, and 2 at least. The zero bucket knows no limit.
type bucket struct {
	rate   float64
	tokens float64
	filled time.Duration
}

// open tells whether one more may go now.
func (b *bucket) open(now time.Duration) bool {
	if b.rate <= 0 {
		return true
	}
	b.tokens = min(b.tokens+(now-b.filled).Seconds()*b.rate, max(b.rate/10, 2))
	b.filled = now
	return b.tokens >= 1
}

func (b *bucket) take() { b.tokens-- }

// calendar counts the refreshes that are due in each second, so that publications which
// began together, after a restart say, are not refreshed together for ever.
type calendar struct {
	due    []int32 // by second, modulo its length
	booked int
}

// calendarSpan is more seconds than any refresh is ahead (maxServerExpires).
const calendarSpan = 1 << 17

// Refreshes are due between 60 and 80 % of a publication's lifetime: late enough that a
// short call needs none, early enough for several tries. Where those seconds are crowded,
// they are due earlier.
const (
	refreshEarliest, refreshFrom, refreshTo = 0.2, 0.6, 0.8
	// crowded is a second with so much more than its fair share.
	crowded = 1.2
	// looks bounds the search for a second that is not.
	looks = 12
)

// bookRefresh chooses when a publication that was renewed at p.sentAt, for life, is to be
// refreshed.
func (e *Engine) bookRefresh(p *publication, life time.Duration) {
	cal := &p.publisher.calendar
	within := func(from, to float64) time.Duration {
		at := p.sentAt + time.Duration((from+(to-from)*e.rand.Float64())*float64(life))
		return at.Truncate(wheelTick) // or the wheel fires in the next second
	}
	share := float64(cal.booked+1) / (life.Seconds() * (refreshFrom + refreshTo) / 2)
	at := within(refreshFrom, refreshTo)
	for range looks {
		if float64(cal.load(at)) < max(2, crowded*share) {
			break
		}
		if other := within(refreshEarliest, refreshTo); cal.load(other) < cal.load(at) {
			at = other
		}
	}
	p.refreshAt = at
	cal.book(p)
}

func slotOf(at time.Duration) int32 { return int32(at / time.Second % calendarSpan) }

func (c *calendar) load(at time.Duration) int32 {
	if c.due == nil {
		return 0
	}
	return c.due[slotOf(at)]
}

// book counts a publication's refresh in.
func (c *calendar) book(p *publication) {
	c.cancel(p)
	if c.due == nil {
		c.due = make([]int32, calendarSpan)
	}
	p.slot = slotOf(p.refreshAt) + 1
	c.due[p.slot-1]++
	c.booked++
}

// cancel counts a publication's refresh out, if it was in.
func (c *calendar) cancel(p *publication) {
	if p.slot != 0 {
		c.due[p.slot-1]--
		c.booked--
		p.slot = 0
	}
}
