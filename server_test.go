package busylamp

import (
	"fmt"
	"slices"
	"time"
)

// simServer is a presence server as RFC 3903 section 6 describes it.
type simServer struct {
	entries map[Presentity]map[string]simEntry
	serial  int
	foreign int           // tags up to it are not of its own making
	least   time.Duration // the shortest lifetime that it grants
}

type simEntry struct {
	state   State
	expires time.Duration
	orphan  bool // its 200 was lost: nobody knows the tag
}

// weather is how a server treats one request.
type weather int

const (
	healthy    weather = iota
	silent             // the request is lost
	answerLost         // the request is taken and its answer lost
	fails              // 500
	refuses            // 403
	amnesia            // restarted with an empty table, then healthy
	replaced           // another server with an empty table, which fails at the tags of the first
	stricter           // grants no less than half an hour from now on
	overloaded         // 503
)

// answer lets a server treat the i-th outstanding request.
func (w *world) answer(i int, how weather) {
	p := w.requests[i]
	w.requests = slices.Delete(w.requests, i, i+1)
	w.busyAt[fmt.Sprint(p.Publisher, p.Request.Presentity)]--
	s := w.servers[p.Publisher]
	var out Outcome
	switch how {
	case silent:
		out = Outcome{Result: Unavailable, Reason: "no answer"}
	case fails:
		out = Outcome{Result: Failed, Code: 500}
	case refuses:
		out = Outcome{Result: Refused, Code: 403}
	case answerLost:
		if out = s.take(p.Request, w.now); out.Result == Accepted && out.Tag != "" {
			e := s.entries[p.Request.Presentity][out.Tag]
			e.orphan = true
			s.entries[p.Request.Presentity][out.Tag] = e
		}
		out = Outcome{Result: Unavailable, Reason: "no answer"}
	case overloaded:
		out = Outcome{Result: Unavailable, Code: 503, RetryAfter: 7 * time.Second}
	case amnesia, replaced, stricter:
		switch how {
		case amnesia:
			s.entries = map[Presentity]map[string]simEntry{}
		case replaced:
			s.entries, s.foreign = map[Presentity]map[string]simEntry{}, s.serial
		case stricter:
			s.least = 30 * time.Minute
		}
		out = s.take(p.Request, w.now)
	default:
		out = s.take(p.Request, w.now)
	}
	w.e.Settled(p.Request, out)
	w.settle()
}

// take is RFC 3903 section 6: the tag must be known, and every success makes a new one.
func (s *simServer) take(r Request, now time.Duration) Outcome {
	entries := s.live(r.Presentity, now)
	old, known := entries[r.Tag]
	var serial int
	if n, _ := fmt.Sscanf(r.Tag, "tag%d", &serial); n > 0 && serial <= s.foreign {
		return Outcome{Result: Failed, Code: 500}
	}
	if r.Expires > 0 && r.Expires < s.least {
		return Outcome{Result: TooBrief, Code: 423, MinExpires: s.least}
	}
	if r.Tag != "" && !known {
		return Outcome{Result: Gone, Code: 412}
	}
	delete(entries, r.Tag)
	if r.Expires == 0 {
		return Outcome{Result: Accepted, Code: 200}
	}
	s.serial++
	tag := fmt.Sprint("tag", s.serial)
	if r.Kind == Initial || r.Kind == Modify {
		old.state = r.State
	}
	entries[tag] = simEntry{state: old.state, expires: now + r.Expires}
	return Outcome{Result: Accepted, Code: 200, Tag: tag, Expires: r.Expires}
}

// live returns the entries of a presentity that have not expired.
func (s *simServer) live(p Presentity, now time.Duration) map[string]simEntry {
	if s.entries[p] == nil {
		s.entries[p] = map[string]simEntry{}
	}
	for tag, e := range s.entries[p] {
		if now >= e.expires {
			delete(s.entries[p], tag)
		}
	}
	return s.entries[p]
}

// check compares what a server holds with the truth. Orphans are I3's exception.
func (w *world) check(orphansToo bool) {
	truth := map[Presentity]State{}
	seen := 0
	for _, c := range w.proxy.calls {
		state := OnThePhone
		if c.stage == Early {
			state = Ringing
		}
		if c.stage == Early && !w.cfg.Early {
			continue
		}
		seen++
		for _, uri := range []string{c.caller, c.callee} {
			truth[Presentity(uri)] = max(truth[Presentity(uri)], state)
		}
	}
	for i, s := range w.servers {
		for n := range users {
			p := Presentity(user(n))
			live, adopted := 0, false
			for _, e := range s.live(p, w.now) {
				if e.orphan && !orphansToo && e.state == truth[p] {
					adopted = true
				}
				if !e.orphan || orphansToo {
					live++
					if e.state != truth[p] {
						w.t.Fatalf("I8: server %d shows %s as %v, and it is %v", i, p, e.state, truth[p])
					}
				}
			}
			// After a kill an orphan may stand for what is thought to be there under an earlier
			// tag, until that is refreshed.
			if want := map[bool]int{true: 1}[truth[p] != Unknown]; live != want && (live != 0 || !adopted) {
				v, _ := w.e.View(p)
				w.t.Fatalf("I8: server %d holds %d live publications of %s, want %d (engine: %+v)", i, live, p, want, v)
			}
		}
	}
	for _, v := range w.e.Views(0, 100) {
		if _, ok := truth[v.Presentity]; !ok && !v.unresolved() {
			w.t.Fatalf("%s is kept without a call: %+v", v.Presentity, v)
		}
	}
	if calls := w.e.Stats().Calls; calls != seen {
		w.t.Fatalf("%d calls are counted and %d are up", calls, seen)
	}
}

// unresolved tells whether somebody is kept for what a server may have: a removal that it
// fails at, or a refusal that is remembered.
func (v View) unresolved() bool {
	for _, p := range v.Publications {
		if p.Attempts > 0 {
			return true
		}
	}
	return false
}
