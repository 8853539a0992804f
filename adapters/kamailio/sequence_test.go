package kamailio

import (
	"math/rand"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestSequence holds a sequence against a model that remembers what is missing, and since
// when: numbers in any order, any number of times, around the wraps, with heartbeats in
// between. What lost tells of has been missing for a window, and is told exactly once.
func TestSequence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.OneOf(rapid.Uint32(), rapid.Uint32Range(1<<31-40, 1<<31+3), rapid.Uint32Range(1<<32-40, 1<<32-1),
			rapid.Just(uint32(0))).Draw(t, "first")
		at := time.Unix(1e9, 0)
		var s sequence
		missing := map[uint32]time.Time{} // by the offset from first
		top := uint32(0)
		know := func(n uint32) {
			for ; top < n; top++ {
				missing[top+1] = at
			}
		}
		arrive := func(n uint32) {
			s.arrived(first + n)
			know(n)
			delete(missing, n)
		}
		lost := func() {
			got, told := s.lost(at), uint32(0)
			for n, since := range missing {
				if int32(first+n-s.base) > 0 {
					continue
				}
				told++
				delete(missing, n)
				if at.Sub(since) < reorderWindow {
					t.Fatalf("%d is lost after %v", n, at.Sub(since))
				}
			}
			if got != told {
				t.Fatalf("lost() = %d, but %d are written off", got, told)
			}
		}
		early := rapid.SliceOfN(rapid.Uint32Range(1, 8), 0, 5).Draw(t, "overtook the heartbeat")
		for _, n := range early {
			s.arrived(first + n)
		}
		s.start(first, at)
		for _, n := range early {
			arrive(n) // again
		}
		for range rapid.IntRange(0, 120).Draw(t, "steps") {
			at = at.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "ms")) * time.Millisecond)
			switch n := rapid.Uint32Range(0, top+12).Draw(t, "n"); rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				s.given(first + n)
				know(n)
			case 1, 2:
				arrive(n)
			case 3:
				lost()
			}
		}
		for range 2 {
			at = at.Add(reorderWindow)
			lost()
		}
		if s.base != s.top || len(s.ahead) != 0 || len(missing) != 0 || s.top != first+top {
			t.Fatalf("not at rest: %+v, missing %v", s, missing)
		}
	})
}

// TestSequenceExact: whatever arrives within the window is not lost, whatever does not is,
// and the count is exact.
func TestSequenceExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.OneOf(rapid.Just(uint32(1<<31-50)), rapid.Just(uint32(1<<32-50)), rapid.Uint32()).Draw(t, "first")
		n := rapid.IntRange(1, 100).Draw(t, "events")
		gone := rapid.SliceOfN(rapid.Bool(), n, n).Draw(t, "gone")
		order := rand.New(rand.NewSource(rapid.Int64().Draw(t, "order"))).Perm(n)
		at := time.Unix(1e9, 0)
		var s sequence
		s.start(first, at)
		s.given(first + uint32(n))
		missing := uint32(0)
		for i, k := range order {
			if gone[k] {
				missing++
				continue
			}
			s.arrived(first + 1 + uint32(k))
			if rapid.Bool().Draw(t, "twice") {
				s.arrived(first + 1 + uint32(k))
			}
			if got := s.lost(at.Add(reorderWindow * time.Duration(i) / time.Duration(n+1))); got != 0 {
				t.Fatalf("%d lost within the window", got)
			}
		}
		got := s.lost(at.Add(reorderWindow)) + s.lost(at.Add(2*reorderWindow))
		if got != missing || s.lost(at.Add(9*reorderWindow)) != 0 {
			t.Fatalf("%d lost, want %d", got, missing)
		}
	})
}

// TestSequenceBounded: a hole in front of a flood costs bounded memory, and is told.
func TestSequenceBounded(t *testing.T) {
	at := time.Unix(1e9, 0)
	var s sequence
	for n := uint32(2); n < 100_000; n++ { // before the first heartbeat, even
		s.arrived(n)
	}
	if len(s.ahead) > maxAhead {
		t.Fatalf("%d numbers are kept before the start", len(s.ahead))
	}
	s = sequence{}
	s.start(0, at)
	for n := uint32(2); n < 1_000_000; n++ {
		s.arrived(n)
		if len(s.ahead) > maxAhead {
			t.Fatalf("%d numbers are kept", len(s.ahead))
		}
	}
	if got := s.lost(at); got != 1 {
		t.Errorf("%d lost, want 1", got)
	}
	s.given(1_000_000 + 1<<30) // a jump is no loop of its length
	s.lost(at.Add(reorderWindow))
	if got := s.lost(at.Add(2 * reorderWindow)); got != 1<<30+1 {
		t.Errorf("%d lost, want %d", got, 1<<30+1)
	}
}

func TestSequenceBeforeStart(t *testing.T) {
	var s sequence
	s.given(5)
	if s.lost(time.Now()) != 0 {
		t.Error("lost before the start")
	}
}

// An event that comes after it was written off is told apart: its call is in doubt.
func TestSequenceLate(t *testing.T) {
	var s sequence
	now := time.Now()
	s.start(10, now)
	if s.arrived(12) {
		t.Error("12 is not late")
	}
	for range 3 {
		now = now.Add(reorderWindow)
		s.lost(now)
	}
	if !s.arrived(11) || s.arrived(13) {
		t.Error("11 is late, and 13 is not")
	}
}
