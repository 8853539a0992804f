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
	base    uint32              // everything up to it has arrived, or is written off
	top     uint32              // the highest number known to be given out
	ahead   map[uint32]struct{} // have arrived above base
	// mark is what top was at a time: whatever is missing up to it since then, for as long
	// as the window, is lost.
	mark   uint32
	marked time.Time
	gone   uint32 // are written off, and not yet told
}

// start begins to watch: numbers up to n belong to the past.
func (s *sequence) start(n uint32, now time.Time) {
	early := s.ahead
	*s = sequence{started: true, base: n, top: n, mark: n, marked: now, ahead: map[uint32]struct{}{}}
	for e := range early {
		s.arrived(e)
	}
}

// arrived takes the number of an event, which may have overtaken the number that
// [sequence.start] begins with. It reports whether the event comes too late: it was
// written off already, or is older than all that is watched.
func (s *sequence) arrived(n uint32) (late bool) {
	if s.started && int32(n-s.base) <= 0 {
		return true
	}
	if s.started && n == s.base+1 { // as nearly always
		s.base++
		s.given(n)
		s.advance()
		return false
	}
	if !s.started && len(s.ahead) == maxAhead {
		return false
	}
	if s.ahead == nil {
		s.ahead = map[uint32]struct{}{}
	}
	s.ahead[n] = struct{}{}
	if !s.started {
		return false
	}
	s.given(n)
	s.advance()
	if len(s.ahead) > maxAhead {
		s.writeOff(s.top)
	}
	return false
}

// given takes a number that the proxy says it has given out.
func (s *sequence) given(n uint32) {
	if s.started && int32(n-s.top) > 0 {
		s.top = n
	}
}

// advance moves base over what has arrived behind it.
func (s *sequence) advance() {
	for {
		if _, ok := s.ahead[s.base+1]; !ok {
			return
		}
		s.base++
		delete(s.ahead, s.base)
	}
}

// writeOff gives up what is missing up to n.
func (s *sequence) writeOff(n uint32) {
	if int32(n-s.base) <= 0 {
		return
	}
	missing := n - s.base
	for a := range s.ahead {
		if int32(n-a) >= 0 {
			missing--
			delete(s.ahead, a)
		}
	}
	s.gone += missing
	s.base = n
	s.advance()
}

// lost returns how many events have been away for longer than the reorder window (and for
// less than two, if it is asked all the time), and writes them off.
func (s *sequence) lost(now time.Time) uint32 {
	if !s.started {
		return 0
	}
	if now.Sub(s.marked) >= reorderWindow {
		s.writeOff(s.mark)
		s.mark, s.marked = s.top, now
	}
	n := s.gone
	s.gone = 0
	return n
}
