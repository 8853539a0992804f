package pluginhost

import "time"

// bucket is a token bucket. It belongs to one goroutine.
type bucket struct {
	rate, burst float64 // tokens per second, and at most
	tokens      float64
	last        time.Time
	empty       time.Time // since when it has been wanting, zero if it is not
}

func newBucket(rate, burst float64, now time.Time) bucket {
	return bucket{rate: rate, burst: burst, tokens: burst, last: now}
}

// fill adds what has come in since.
func (b *bucket) fill(now time.Time) {
	if passed := now.Sub(b.last).Seconds(); passed > 0 {
		b.last = now
		if b.tokens < b.burst {
			b.tokens = min(b.burst, b.tokens+passed*b.rate)
		}
	}
	// Whoever waits to the last token has not become quiet by it: a second's worth has.
	if b.tokens >= min(b.rate, b.burst) {
		b.empty = time.Time{}
	}
}

// grant adds tokens beyond the bucket's size.
func (b *bucket) grant(n float64) { b.tokens += n }

// take takes n tokens, on credit if need be, and returns how long to wait for them.
func (b *bucket) take(n float64, now time.Time) time.Duration {
	b.fill(now)
	b.tokens -= n
	if b.tokens >= 0 {
		return 0
	}
	if b.empty.IsZero() {
		b.empty = now
	}
	return time.Duration(-b.tokens / b.rate * float64(time.Second))
}

// allow takes a token if there is one.
func (b *bucket) allow(now time.Time) bool {
	b.fill(now)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// wanting returns for how long more has been taken than comes in.
func (b *bucket) wanting(now time.Time) time.Duration {
	if b.empty.IsZero() {
		return 0
	}
	return now.Sub(b.empty)
}
