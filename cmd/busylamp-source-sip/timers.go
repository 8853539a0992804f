package main

import (
	"container/heap"
	"time"
)

// timers are the subscriptions by when they are due, the soonest first: one clock for all of
// them, and no goroutine for any.
type timers struct{ heap []*sub }

func (t *timers) Len() int           { return len(t.heap) }
func (t *timers) Less(i, j int) bool { return t.heap[i].due.Before(t.heap[j].due) }
func (t *timers) Swap(i, j int) {
	t.heap[i], t.heap[j] = t.heap[j], t.heap[i]
	t.heap[i].slot, t.heap[j].slot = i+1, j+1
}

// Push and Pop are heap's.
func (t *timers) Push(x any) {
	s := x.(*sub)
	t.heap = append(t.heap, s)
	s.slot = len(t.heap)
}
func (t *timers) Pop() any {
	last := len(t.heap) - 1
	s := t.heap[last]
	t.heap[last] = nil
	t.heap, s.slot = t.heap[:last], 0
	return s
}

// set takes when a subscription is due now, which may be never. It has to be called after
// whatever a subscription was told.
func (t *timers) set(s *sub) {
	s.wind()
	switch {
	case s.due.IsZero() && s.slot > 0:
		heap.Remove(t, s.slot-1)
	case s.due.IsZero():
	case s.slot > 0:
		heap.Fix(t, s.slot-1)
	default:
		heap.Push(t, s)
	}
}

// next returns what has been due longest at a time, nil if nothing is.
func (t *timers) next(now time.Time) *sub {
	if len(t.heap) == 0 || t.heap[0].due.After(now) {
		return nil
	}
	return t.heap[0]
}

// wait is how long there is nothing to do, at most most.
func (t *timers) wait(now time.Time, most time.Duration) time.Duration {
	if len(t.heap) == 0 {
		return most
	}
	return max(0, min(most, t.heap[0].due.Sub(now)))
}
