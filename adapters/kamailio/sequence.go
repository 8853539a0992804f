package kamailio

import "time"

// reorderWindow is how long a number may stay away before its event counts as lost. The
// events of one proxy overtake each other by milliseconds: in the proxy's workers, and
// again in kamevapi.
const reorderWindow = time.Second

// maxAhead bounds the numbers that have arrived behind a hole.
const maxAhead = 1 << 14

// sequence watches the numbers of a proxy's events for holes. Numbers are compared by
// 32-bit serial arithmetic (RFC 1982), since Kamailio's counter wraps.
type sequence struct {
	started bool
	base    uint32              // everything up to it has arrived
	top     uint32              // the highest number known to be given out
	ahead   map[uint32]struct{} // above base
	since   time.Time           // when base last moved, or top left it
}

// start begins to watch: numbers up to n belong to the past.
func (s *sequence) start(n uint32, now time.Time) {
	*s = sequence{started: true, base: n, top: n, since: now, ahead: map[uint32]struct{}{}}
}

// arrived takes the number of an event.
func (s *sequence) arrived(n uint32, now time.Time) {
	if !s.started || int32(n-s.base) <= 0 {
		return
	}
	s.given(n, now)
	if n != s.base+1 {
		s.ahead[n] = struct{}{}
		return
	}
	for s.base = n; ; s.base++ {
		if _, ok := s.ahead[s.base+1]; !ok {
			break
		}
		delete(s.ahead, s.base+1)
	}
	s.since = now
}

// given takes a number that the proxy says it has given out.
func (s *sequence) given(n uint32, now time.Time) {
	if !s.started || int32(n-s.top) <= 0 {
		return
	}
	if s.top == s.base {
		s.since = now
	}
	s.top = n
}

// lost returns how many events have been away for longer than the reorder window, and
// writes them off.
func (s *sequence) lost(now time.Time) uint32 {
	if !s.started || s.base == s.top {
		return 0
	}
	if now.Sub(s.since) < reorderWindow && len(s.ahead) < maxAhead {
		return 0
	}
	n := s.top - s.base - uint32(len(s.ahead))
	s.base, s.since = s.top, now
	clear(s.ahead)
	return n
}
