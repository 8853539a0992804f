package busylamp

import "time"

// wheelTick is the resolution of everything that the engine does by the clock.
const wheelTick = 100 * time.Millisecond

// wheel is a calendar of people to be woken, in buckets of one tick. Setting and stopping an
// alarm costs the same however many there are.
type wheel struct {
	buckets map[int64]*person
	tick    int64
}

// alarm is a person's place in a wheel's bucket. There is one, for the first of his clocks.
type alarm struct {
	prev, next *person
	tick       int64 // 0: not set
}

// set wakes somebody at a time, instead of when he was to be woken before.
func (w *wheel) set(who *person, at time.Duration) {
	tick := max(int64((at+wheelTick-1)/wheelTick), w.tick+1)
	a := &who.alarm
	if a.tick == tick {
		return
	}
	w.stop(who)
	if w.buckets == nil {
		w.buckets = make(map[int64]*person)
	}
	head := w.buckets[tick]
	a.tick, a.next = tick, head
	if head != nil {
		head.alarm.prev = who
	}
	w.buckets[tick] = who
}

// stop takes somebody's alarm out, if it is set.
func (w *wheel) stop(who *person) {
	a := &who.alarm
	if a.tick == 0 {
		return
	}
	switch {
	case a.prev != nil:
		a.prev.alarm.next = a.next
	case a.next != nil:
		w.buckets[a.tick] = a.next
	default:
		delete(w.buckets, a.tick)
	}
	if a.next != nil {
		a.next.alarm.prev = a.prev
	}
	*a = alarm{}
}

// advance wakes those whose time has come.
func (w *wheel) advance(e *Engine, now time.Duration) {
	for target := int64(now / wheelTick); w.tick < target; {
		w.tick++
		for who := w.buckets[w.tick]; who != nil; who = w.buckets[w.tick] {
			w.stop(who)
			who.wake(e)
		}
	}
}
