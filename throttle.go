package busylamp

import "time"

// throttle lets so many out in any second. It counts by the wheel's ticks, of which a second
// touches eleven; within a tick it lets only its share out, so that they come evenly.
type throttle struct {
	sent [11]int
	tick int64
}

func (t *throttle) open(perSecond int, now time.Duration) bool {
	if perSecond <= 0 {
		return true
	}
	sum := 0
	for tick := int64(now / wheelTick); t.tick < tick; {
		t.tick = max(t.tick+1, tick-int64(len(t.sent)))
		t.sent[t.tick%int64(len(t.sent))] = 0
	}
	for _, n := range t.sent {
		sum += n
	}
	return sum < perSecond && t.sent[t.tick%int64(len(t.sent))] < (perSecond+9)/10
}

func (t *throttle) take() { t.sent[t.tick%int64(len(t.sent))]++ }

// recent returns what was let out in the present tick and those before it.
func (t *throttle) recent(now time.Duration) (sent [11]int) {
	t.open(1, now)
	n := int64(len(sent))
	for i := range sent {
		sent[i] = t.sent[(t.tick%n-int64(i)+n)%n]
	}
	return sent
}

// resume goes on where another throttle was.
func (t *throttle) resume(sent [11]int, now time.Duration) {
	t.tick = int64(now / wheelTick)
	n := int64(len(sent))
	for i := range sent {
		t.sent[(t.tick%n-int64(i)+n)%n] = sent[i]
	}
}
