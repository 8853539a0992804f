package busylamp

import (
	"fmt"
	"slices"
	"time"

	"github.com/busylamp/busylamp/integration/compositor"
)

// simServer is a presence server, and what only the world knows of its publications.
type simServer struct {
	compositor.Server
	entries map[Presentity]map[string]simEntry // emptied by a test, the server forgets them
	least   time.Duration                      // the shortest lifetime that it grants
	at      time.Duration                      // of the last request
	burst   int                                // requests at that time
}

type simEntry struct {
	state   string // a State's name
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

// maxBurst bounds the requests to a server while no time passes: far above what the actions
// of one schedule can bring about, and below what a race with a server's answers does.
const maxBurst = 1000

// answer lets a server treat the i-th outstanding request.
func (w *world) answer(i int, how weather) {
	p := w.requests[i]
	w.requests = slices.Delete(w.requests, i, i+1)
	w.busyAt[fmt.Sprint(p.Publisher, p.Request.Presentity)]--
	s := w.servers[p.Publisher]
	if s.burst++; w.now != s.at {
		s.at, s.burst = w.now, 1
	}
	if s.burst > maxBurst {
		w.t.Fatalf("I6: %d requests to server %d at one time, the last for %s", s.burst, p.Publisher, p.Request.Presentity)
	}
	var out Outcome
	if w.cfg.Publishers[p.Publisher].NoSentinel && (how == amnesia || how == replaced) {
		how = healthy // without a sentinel that is found in Expires, not in the 30 s of I8
	}
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
			s.entries = map[Presentity]map[string]simEntry{}
			s.Replace()
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

// results is what an adapter makes of a server's answers.
var results = map[int]Result{200: Accepted, 400: Refused, 412: Gone, 423: TooBrief, 500: Failed}

// take has the server answer a request, as an adapter would put it on the wire.
func (s *simServer) take(r Request, now time.Duration) Outcome {
	sent := compositor.Request{Presentity: string(r.Presentity), Tag: r.Tag, Expires: r.Expires}
	if r.Kind == Initial || r.Kind == Modify {
		sent.Body = r.State.String()
	}
	if s.Least = s.least; len(s.entries) == 0 {
		s.Forget()
	}
	a := s.Publish(sent, now)
	s.live(r.Presentity, now)
	return Outcome{Result: results[a.Code], Code: a.Code, Tag: a.Tag, Expires: a.Expires, MinExpires: a.MinExpires}
}

// live returns what the server holds of a presentity now, with the world's marks.
func (s *simServer) live(p Presentity, now time.Duration) map[string]simEntry {
	held := map[string]simEntry{}
	for _, e := range s.Published(string(p), now) {
		held[e.Tag] = simEntry{state: e.Body, expires: e.Expires, orphan: s.entries[p][e.Tag].orphan}
	}
	s.entries[p] = held
	return held
}

// check compares what a server holds with the truth. Orphans are I3's exception.
func (w *world) check(orphansToo bool) {
	truth := map[Presentity]State{}
	seen := 0
	for _, c := range w.calls() {
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
				if e.orphan && !orphansToo && e.state == truth[p].String() {
					adopted = true
				}
				if !e.orphan || orphansToo {
					live++
					if e.state != truth[p].String() {
						w.t.Fatalf("I8: server %d shows %s as %s, and it is %v", i, p, e.state, truth[p])
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
