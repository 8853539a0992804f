package busylamp

import (
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const users = 5

// TestWorld runs random schedules of calls, lost, doubled, shuffled and late events,
// reconnects, proxy restarts and server faults against the engine. I2 and I4 are checked
// at every step; at the end the faults stop, and 30 s later every server must hold the
// truth (I8), and exactly one publication of everybody in a call once the orphans of lost
// answers have expired (I3). A failing schedule is shrunk, and its seed printed.
func TestWorld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.IntRange(1, 2).Draw(t, "publishers"), rapid.Bool().Draw(t, "early"))
		w.connect()
		w.settle()
		t.Repeat(w.actions())
		w.calm()
		w.check(false)
		w.pass(31*time.Minute, true) // beyond Expires: the orphans are gone
		w.check(true)
	})
}

func (w *world) actions() map[string]func(*rapid.T) {
	acts := map[string]func(*rapid.T){
		"invite": func(t *rapid.T) {
			w.proxy.nextID++
			w.proxy.serial++
			id := DialogID{Entry: w.proxy.nextID % 3, ID: w.proxy.nextID}
			from := rapid.IntRange(0, users-1).Draw(t, "from")
			to := rapid.IntRange(0, users-1).Draw(t, "to")
			w.proxy.calls[id] = simCall{serial: w.proxy.serial, stage: Early, caller: user(from), callee: user(to)}
			if w.cfg.Early {
				w.raise(id, Early)
			}
		},
		"answer": func(t *rapid.T) {
			if id, ok := w.pickCall(t); ok && w.proxy.calls[id].stage == Early {
				c := w.proxy.calls[id]
				c.stage = Confirmed
				w.proxy.calls[id] = c
				w.raise(id, Confirmed)
			}
		},
		"bye": func(t *rapid.T) {
			if id, ok := w.pickCall(t); ok {
				confirmed := w.proxy.calls[id].stage == Confirmed
				delete(w.proxy.calls, id)
				if confirmed || w.cfg.Early {
					w.raise(id, Ended)
				}
			}
		},
		"deliver": func(t *rapid.T) {
			if n := len(w.wire); n > 0 {
				w.deliver(rapid.IntRange(0, n-1).Draw(t, "event"))
			}
		},
		"again": func(t *rapid.T) {
			if n := len(w.delivered); n > 0 {
				w.apply(w.delivered[rapid.IntRange(0, n-1).Draw(t, "event")])
			}
		},
		"lose": func(t *rapid.T) {
			if n := len(w.wire); n > 0 {
				i := rapid.IntRange(0, n-1).Draw(t, "event")
				w.wire = slices.Delete(w.wire, i, i+1)
				w.lost = true
			}
		},
		"notice": func(*rapid.T) { w.notice() },
		"cut": func(*rapid.T) {
			if w.connected {
				w.lost = false
				w.disconnect()
			}
		},
		"connect": func(*rapid.T) {
			if !w.connected {
				w.connect()
			}
		},
		"restart": func(t *rapid.T) {
			w.lost = false
			keep := rapid.Bool().Draw(t, "dialogs survive")
			w.restart(func(DialogID) bool { return keep })
		},
		"resync": func(*rapid.T) { w.stepResync(false) },
		"reborn": func(t *rapid.T) { w.reborn(func() bool { return rapid.Bool().Draw(t, "taken") }) },
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
	}
	for name, act := range maps.Clone(acts) {
		acts[name] = func(t *rapid.T) { w.t = t; act(t); w.settle() }
	}
	acts[""] = func(t *rapid.T) { w.checkNeverCleared() }
	return acts
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
		w := newWorld(t, 1, false)
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
			w.proxy.calls[id] = c
			up[Presentity(c.caller)]++
			up[Presentity(c.callee)]++
		}
		events = rapid.Permutation(events).Draw(t, "order")
		reconnect := rapid.IntRange(0, len(events)).Draw(t, "reconnect")
		w.e.Connected(0, "0")
		w.connected = true
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
