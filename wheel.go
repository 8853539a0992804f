package busylamp

import "time"

// wheelTick is the resolution of everything that the engine does by the clock.
const wheelTick = 100 * time.Millisecond

// wheel is a calendar of timers, in buckets of one tick. Setting and stopping a timer
// costs the same however many there are.
type wheel struct {
	buckets map[int64]*timer
	tick    int64
}

// timer is an entry of a wheel's bucket, and part of whoever is to be woken.
type timer struct {
	prev, next *timer
	tick       int64 // 0: not set
	owner      wakeable
}

// wakeable is what a timer wakes.
type wakeable interface{ wake(e *Engine) }

// set lets a timer fire at a time, instead of when it was to fire before.
func (w *wheel) set(t *timer, at time.Duration) {
	tick := max(int64((at+wheelTick-1)/wheelTick), w.tick+1)
	if t.tick == tick {
		return
	}
	w.stop(t)
	if w.buckets == nil {
		w.buckets = make(map[int64]*timer)
	}
	head := w.buckets[tick]
	t.tick, t.prev, t.next = tick, nil, head
	if head != nil {
		head.prev = t
	}
	w.buckets[tick] = t
}

// stop takes a timer out, if it is set.
func (w *wheel) stop(t *timer) {
	if t.tick == 0 {
		return
	}
	switch {
	case t.prev != nil:
		t.prev.next = t.next
	case t.next != nil:
		w.buckets[t.tick] = t.next
	default:
		delete(w.buckets, t.tick)
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	t.tick, t.prev, t.next = 0, nil, nil
}

// advance fires the timers that are due.
func (w *wheel) advance(e *Engine, now time.Duration) {
	for target := int64(now / wheelTick); w.tick < target; {
		w.tick++
		for t := w.buckets[w.tick]; t != nil; t = w.buckets[w.tick] {
			w.stop(t)
			t.owner.wake(e)
		}
	}
}
