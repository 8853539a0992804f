package busylamp

import (
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/busylamp/busylamp/integration/record"
)

const users = 5

// TestWorld runs random schedules of calls, lost, doubled, shuffled and late events,
// reconnects, proxy restarts and server faults against the engine. I2 and I4 are checked
// at every step; at the end the faults stop, and 30 s later every server must hold the
// truth (I8), and exactly one publication of everybody in a call once the orphans of lost
// answers have expired (I3). A failing schedule is shrunk, and its seed printed.
// `make soak` runs a million steps and more.
func TestWorld(t *testing.T) {
	did := map[string]int{}
	schedules := 0
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, drawWorld(t))
		for _, p := range w.proxies {
			w.connect(p)
		}
		w.settle()
		t.Repeat(w.actions(did))
		w.calm()
		w.check(false)
		w.pass(31*time.Minute, true) // beyond Expires: the orphans are gone
		w.check(true)
		schedules++
	})
	steps := 0
	for _, n := range did {
		steps += n
	}
	if record.Soak() && steps < 1_000_000 {
		t.Errorf("%d steps are no soak: raise -rapid.checks", steps)
	}
	record.Fault(t, "schedules", steps, "%d schedules, in which I2 and I4 held at every step, and I8 and I3 at the end; among the steps %d proxy restarts, %d cuts, %d losses of events, %d kills and %d restarts of the sidecar, %d answers lost, %d servers emptied or replaced",
		schedules, did["restart"], did["cut"], did["lose"]+did["overflow"], did["killed"], did["reborn"], did["answer lost"], did["server amnesia"]+did["server replaced"])
}

func (w *world) actions(did map[string]int) map[string]func(*rapid.T) {
	acts := map[string]func(*rapid.T){
		"invite": func(t *rapid.T) {
			p := w.pickProxy(t)
			p.nextID++
			w.serial++
			id := DialogID{Entry: p.nextID % 3, ID: p.nextID}
			from := rapid.IntRange(0, users-1).Draw(t, "from")
			to := rapid.IntRange(0, users-1).Draw(t, "to")
			p.calls[id] = simCall{serial: w.serial, stage: Early, caller: user(from), callee: user(to)}
			if rapid.Bool().Draw(t, "times out") {
				c := p.calls[id]
				c.until = w.now + minutes(t)
				p.calls[id] = c
			}
			if w.cfg.Early {
				p.raise(id, Early)
			}
		},
		"answer": func(t *rapid.T) {
			p := w.pickProxy(t)
			if id, ok := p.pickCall(t); ok && p.calls[id].stage == Early {
				c := p.calls[id]
				c.stage = Confirmed
				p.calls[id] = c
				p.raise(id, Confirmed)
			}
		},
		"bye": func(t *rapid.T) {
			p := w.pickProxy(t)
			if id, ok := p.pickCall(t); ok {
				w.bye(p, id)
			}
		},
		"extend": func(t *rapid.T) {
			p := w.pickProxy(t)
			if id, ok := p.pickCall(t); ok {
				c := p.calls[id]
				c.until = w.now + minutes(t)
				p.calls[id] = c
			}
		},
		"away":   func(t *rapid.T) { w.storm(time.Duration(rapid.IntRange(30, 150).Draw(t, "s"))*time.Second, healthy) },
		"invert": func(t *rapid.T) { w.pickProxy(t).invert() },
		"deliver": func(t *rapid.T) {
			p := w.pickProxy(t)
			if n := len(p.wire); n > 0 {
				w.deliver(p, rapid.IntRange(0, n-1).Draw(t, "event"))
			}
		},
		"again": func(t *rapid.T) {
			p := w.pickProxy(t)
			if n := len(p.delivered); n > 0 {
				w.apply(p, p.delivered[rapid.IntRange(0, n-1).Draw(t, "event")])
			}
		},
		"lose": func(t *rapid.T) {
			p := w.pickProxy(t)
			if n := len(p.wire); n > 0 {
				p.lose(rapid.IntRange(0, n-1).Draw(t, "event"), 1)
			}
		},
		"overflow": func(t *rapid.T) { w.pickProxy(t).lose(0, rapid.IntRange(1, 4).Draw(t, "events")) },
		"notice":   func(t *rapid.T) { w.notice(w.pickProxy(t)) },
		"cut": func(t *rapid.T) {
			if p := w.pickProxy(t); p.connected {
				w.disconnect(p)
			}
		},
		"connect": func(t *rapid.T) {
			if p := w.pickProxy(t); !p.connected {
				w.connect(p)
			}
		},
		"restart": func(t *rapid.T) { w.restart(w.pickProxy(t), rapid.Bool().Draw(t, "dialogs survive")) },
		"resync":  func(*rapid.T) { w.stepResync(false) },
		"reborn":  func(t *rapid.T) { w.reborn(func() bool { return rapid.Bool().Draw(t, "taken") }) },
		"killed": func(t *rapid.T) {
			w.killed(func() bool { return rapid.Bool().Draw(t, "taken") }, func() bool { return rapid.Bool().Draw(t, "stored") })
		},
		"resync fails":    func(*rapid.T) { w.stepResync(true) },
		"time":            func(t *rapid.T) { w.pass(time.Duration(rapid.IntRange(1, 30).Draw(t, "s"))*time.Second, false) },
		"healthy":         w.serve(healthy),
		"healthy too":     w.serve(healthy),
		"silent":          w.serve(silent),
		"answer lost":     w.serve(answerLost),
		"fails":           w.serve(fails),
		"server amnesia":  w.serve(amnesia),
		"server replaced": w.serve(replaced),
		"server stricter": w.serve(stricter),
		"overloaded":      w.serve(overloaded),
		"storm": func(t *rapid.T) {
			how := rapid.SampledFrom([]weather{silent, answerLost, fails, overloaded}).Draw(t, "how")
			w.storm(time.Duration(rapid.IntRange(1, 60).Draw(t, "s"))*time.Second, how)
		},
	}
	// More calls than faults, resyncs that come to their end, and removals that fail.
	for _, name := range []string{"invite", "answer", "bye", "deliver", "again", "resync", "fails"} {
		acts[name+" too"] = acts[name]
	}
	acts["resync once more"] = acts["resync"]
	for name, act := range maps.Clone(acts) {
		acts[name] = func(t *rapid.T) { w.t = t; did[name]++; act(t); w.settle() }
	}
	acts[""] = func(t *rapid.T) { w.checkNeverCleared() }
	return acts
}

func minutes(t *rapid.T) time.Duration {
	return time.Duration(rapid.IntRange(1, 10).Draw(t, "minutes")) * time.Minute
}

func (w *world) serve(how weather) func(*rapid.T) {
	return func(t *rapid.T) {
		if n := len(w.requests); n > 0 {
			w.answer(rapid.IntRange(0, n-1).Draw(t, "request"), how)
		}
	}
}

// TestAnyOrderSameResult: the events of some calls, shuffled and doubled, with a reconnect
// and its resync anywhere among them, always end in the same state.
func TestAnyOrderSameResult(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var events []CallEvent
		up := map[Presentity]int{}
		w := newWorld(t, worldConfig{proxies: 1, publishers: 1, sentinel: true, hold: time.Hour})
		p := w.proxies[0]
		for i := range rapid.IntRange(1, 6).Draw(t, "calls") {
			id := DialogID{Entry: 7, ID: uint32(i)}
			c := simCall{serial: i, stage: Confirmed, caller: user(rapid.IntRange(0, 3).Draw(t, "from")),
				callee: user(rapid.IntRange(0, 3).Draw(t, "to"))}
			ends := rapid.Bool().Draw(t, "ends")
			// The stamps may be inverted: an end can carry the lower number.
			start := CallEvent{Dialog: id, Stage: Confirmed, Seq: rapid.Uint32().Draw(t, "seq"), Caller: c.caller, Callee: c.callee}
			events = append(events, start, start)
			if ends {
				end := CallEvent{Dialog: id, Stage: Ended, Seq: rapid.Uint32().Draw(t, "seq")}
				events = append(events, end, end)
				continue
			}
			p.calls[id] = c
			up[Presentity(c.caller)]++
			up[Presentity(c.callee)]++
		}
		events = rapid.Permutation(events).Draw(t, "order")
		reconnect := rapid.IntRange(0, len(events)).Draw(t, "reconnect")
		w.connect(p)
		for i, ev := range events {
			if i == reconnect {
				w.e.Disconnected(0)
				w.e.Connected(0, "0")
			}
			w.e.Calls(0, []CallEvent{ev})
			w.settle()
		}
		w.calm()
		for n := range users {
			v, ok := w.e.View(Presentity(user(n)))
			if ok != (up[v.Presentity] > 0) || v.Calls != up[v.Presentity] {
				t.Fatalf("%s: in %d calls, want %d", user(n), v.Calls, up[Presentity(user(n))])
			}
		}
		w.check(true)
	})
}
