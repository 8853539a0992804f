package busylamp

import (
	"slices"
	"testing"
	"time"
)

// A call that another source sees, and what both halves of a presence are.
func TestParts(t *testing.T) {
	w := newWatching(t, func(cfg *Config) { cfg.Publishers[0].Part, cfg.Publishers[1].Part = TelephonyOnly, RichOnly })
	w.up(0, SourceInfo{})
	w.up(1, SourceInfo{})
	w.e.Watch(userA, "x", 0)
	w.take()
	w.says(0, Statement{Presentity: userA, State: OnThePhone, Telephony: true})
	w.says(1, Statement{Presentity: userA, State: DoNotDisturb})
	w.shows(0, OnThePhone)
	w.shows(1, DoNotDisturb)
	if v, _ := w.e.View(userA); v.State != DoNotDisturb || v.Telephony != OtherCall || v.Rich != DoNotDisturb {
		t.Errorf("%+v", v)
	}
}

// Every pair of rows of the table, the stronger stated first and last.
func TestPrecedence(t *testing.T) {
	table := DefaultPrecedence()
	state := func(s State) Statement {
		st := Statement{Presentity: userA, State: s}
		if s == OtherCall {
			st.State = OnThePhone
		}
		return st
	}
	for i, strong := range table {
		for _, weak := range table[i+1:] {
			if strong == OnThePhone || weak == OnThePhone { // not a source's, see TestParts
				continue
			}
			for _, first := range []bool{true, false} {
				w := newWatching(t, func(cfg *Config) { cfg.Early = true })
				w.up(0, SourceInfo{})
				w.up(1, SourceInfo{})
				w.e.Watch(userA, "x", 0)
				if !first {
					w.says(1, state(weak))
				}
				w.says(0, state(strong))
				if first {
					w.says(1, state(weak))
				}
				if v, _ := w.e.View(userA); v.State != strong {
					t.Errorf("%v beside %v is %v", strong, weak, v.State)
				}
			}
		}
	}
}

// Forwarded, as an option: do-not-disturb hides it, and it hides busy and available.
func TestForwardedAsAState(t *testing.T) {
	table := slices.Insert(DefaultPrecedence(), 1, Forwarded)
	for _, c := range []struct {
		table       Precedence
		state, want State
		word        string
	}{
		{table, DoNotDisturb, DoNotDisturb, "do not disturb"},
		{table, OnThePhone, Forwarded, "forwarded to voice mail"},
		{table, Available, Forwarded, "forwarded to voice mail"},
		{nil, OnThePhone, OtherCall, "forwarded to voice mail"},
		{nil, Available, Available, "forwarded to voice mail"},
	} {
		w := newWatching(t, func(cfg *Config) { cfg.Precedence = c.table })
		w.up(0, SourceInfo{})
		w.e.Watch(userA, "x", 0)
		w.take()
		w.goes(0, userA, Subscribed)
		w.says(0, Statement{Presentity: userA, State: c.state, Details: Details{Forward: ToVoiceMail}})
		if v, _ := w.e.View(userA); v.State != c.want || v.Sources[0].Status != c.word {
			t.Errorf("%v: %v, %q; want %v, %q", c.state, v.State, v.Sources[0].Status, c.want, c.word)
		}
	}
}

// Who is not named speaks for nobody: neither calls nor a source, whatever it says unasked.
func TestSpeaks(t *testing.T) {
	w := newWatching(t, func(cfg *Config) {
		cfg.Speaks = func(p Presentity) []string { return map[Presentity][]string{userA: {"b"}, userB: {"calls", "a"}}[p] }
		cfg.Sides = SideBoth
	})
	w.up(0, SourceInfo{Unasked: true})
	w.up(1, SourceInfo{})
	w.e.Watch(userA, "x", 0)
	w.pass(time.Second)
	if len(w.asked) != 1 || w.asked[0].Source != 1 {
		t.Errorf("asked: %+v", w.asked)
	}
	w.says(0, Statement{Presentity: userA, State: Busy})
	w.e.Calls(0, []CallEvent{{Dialog: DialogID{1, 1}, Stage: Confirmed, Caller: string(userA), Callee: string(userB)}})
	w.take()
	w.shows(0, Unknown)
	if v, _ := w.e.View(userB); v.State != OnThePhone {
		t.Errorf("the callee, of whom calls are heard, is %v", v.State)
	}
	w.says(1, Statement{Presentity: userA, State: Away})
	w.shows(0, Away)
}

// Ties go to the source's priority, then to the newer; a preferred source is heard alone.
func TestTiesAndPreference(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"the newer", func(*Config) {}, "b"},
		{"priority", func(cfg *Config) { cfg.Sources[0].Priority = 1 }, "a"},
		{"preferred", func(cfg *Config) { cfg.Preferred = "a" }, "a"},
	} {
		w := newWatching(t, c.change)
		w.up(0, SourceInfo{})
		w.up(1, SourceInfo{})
		w.e.Watch(userA, "x", 0)
		w.says(0, Statement{Presentity: userA, State: Busy, Age: time.Second})
		w.says(1, Statement{Presentity: userA, State: Busy})
		if v, _ := w.e.View(userA); v.Source != c.want {
			t.Errorf("%s: %s", c.name, v.Source)
		}
		w.says(1, Statement{Presentity: userA, State: DoNotDisturb})
		want := map[bool]State{true: Busy, false: DoNotDisturb}[c.name == "preferred"]
		if v, _ := w.e.View(userA); v.State != want {
			t.Errorf("%s: %v, want %v", c.name, v.State, want)
		}
	}
}
