package busylamp

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// sourceModel is what two sources may make of three users, told in the plainest way: an
// oracle beside the engine's bookkeeping.
type sourceModel struct {
	*watching
	rapid   *rapid.T
	running [2]bool
	works   [2]bool
	watched map[Presentity]bool
	claims  map[string]modelClaim // by source and user
	asked   []modelAsk
}

// modelClaim holds for certain until one time, and may hold until another: in between its source
// may be asked, and has lost what it knew the claim by.
type modelClaim struct {
	state       State
	until, most time.Duration
}

type modelAsk struct {
	source int
	at     time.Duration
}

var modelUsers = []Presentity{userA, userB, "sip:c@example.com"}

func claimKey(source int, who Presentity) string { return fmt.Sprint(source, who) }

// TestSources: whatever sources, their systems and their subscriptions do, in any order, the
// presence is the strongest claim that still holds, no claim outlives its grace, and no source
// is asked while it is down or more often than it may be. At the end, when everything works,
// everybody who is to be watched has been asked for.
func TestSources(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &sourceModel{watching: newWatching(t, func(cfg *Config) {
			for i := range cfg.Sources {
				cfg.Sources[i].PerSecond, cfg.Sources[i].MaxFailures = 3, 0
				cfg.Sources[i].FailedDelay, cfg.Sources[i].MaxFailedDelay = 5*time.Second, 20*time.Second
			}
		}), rapid: rt, watched: map[Presentity]bool{}, claims: map[string]modelClaim{}}
		for range 60 {
			m.step()
			m.check()
		}
		m.settle()
	})
}

// step does one thing at random.
func (m *sourceModel) step() {
	source := rapid.IntRange(0, 1).Draw(m.rapid, "source")
	who := rapid.SampledFrom(modelUsers).Draw(m.rapid, "who")
	switch rapid.SampledFrom([]string{"time", "time", "watch", "unwatch", "up", "down", "connector", "subscription", "claim", "claim", "claim", "odd", "odd"}).Draw(m.rapid, "what") {
	case "time":
		d := rapid.SampledFrom([]time.Duration{wheelTick, time.Second, 10 * time.Second, time.Minute, 20 * time.Minute}).Draw(m.rapid, "time")
		for end := m.now + d; m.now < end; m.note() {
			m.pass(wheelTick)
		}
	case "watch":
		m.watched[who] = true
		m.e.Watch(who, "x", 0)
	case "unwatch":
		delete(m.watched, who)
		m.e.Unwatch(who, "x")
		for i := range m.running {
			delete(m.claims, claimKey(i, who))
		}
	case "up":
		m.up(source, SourceInfo{})
		m.running[source], m.works[source] = true, true
	case "down":
		m.report(source, SourceReport{Down: "killed"})
		m.running[source], m.works[source] = false, false
		m.grace(source, modelUsers...)
	case "connector":
		m.connector(source, rapid.Bool().Draw(m.rapid, "works"))
	case "odd":
		m.now += time.Duration(rapid.IntRange(1, 99).Draw(m.rapid, "ms")) * time.Millisecond
		m.e.Advance(m.now)
	case "subscription":
		to := rapid.SampledFrom([]SubscriptionState{Subscribed, Terminated, AccessDenied, NotFound, SubscriptionError}).Draw(m.rapid, "state")
		if m.running[source] {
			heard := m.isAsked(source, who)
			r := SourceReport{Subscriptions: []SubscriptionReport{{Presentity: who, State: to}}}
			m.report(source, r)
			if rapid.Bool().Draw(m.rapid, "twice") {
				m.report(source, r)
			}
			if heard && to >= Terminated {
				m.grace(source, who)
			}
		}
	case "claim":
		m.claim(source, who)
	}
	m.take()
	m.note()
}

// isAsked tells whether a source watches somebody or has just been asked to: what it reports of
// others changes nothing.
func (m *sourceModel) isAsked(source int, who Presentity) bool {
	if p := m.e.byURI[who]; p != nil {
		s := p.subscriptionTo(m.e.sources[source])
		return s != nil && (s.state == Requesting || s.state == Subscribed)
	}
	return false
}

func (m *sourceModel) connector(source int, works bool) {
	if !m.running[source] {
		return
	}
	state := map[bool]ConnectorState{true: ConnectorUp, false: ConnectionError}[works]
	m.report(source, SourceReport{Connector: state})
	if m.works[source] && !works {
		m.grace(source, modelUsers...)
	}
	m.works[source] = works
}

func (m *sourceModel) claim(source int, who Presentity) {
	st := Statement{Presentity: who, State: rapid.SampledFrom([]State{Unknown, Offline, Available, Away, Busy, OnThePhone, DoNotDisturb}).Draw(m.rapid, "claims"),
		For: rapid.SampledFrom([]time.Duration{0, time.Second, 40 * time.Second, 48 * time.Hour}).Draw(m.rapid, "for")}
	if !m.running[source] {
		return
	}
	m.says(source, st)
	until := m.now + maxAge
	if st.For > 0 && st.For < maxAge {
		until = m.now + st.For
	}
	switch key := claimKey(source, who); {
	case !m.watched[who]:
	case st.State == Unknown:
		delete(m.claims, key)
	default:
		m.claims[key] = modelClaim{m.e.asSeen(st.State), until, until}
		if !m.works[source] || m.e.byURI[who].subscriptionTo(m.e.sources[source]).state > Subscribed {
			m.grace(source, who)
		}
	}
}

// grace bounds a source's claims.
func (m *sourceModel) grace(source int, users ...Presentity) {
	for _, who := range users {
		if c, ok := m.claims[claimKey(source, who)]; ok {
			c.until, c.most = min(c.until, m.now+30*time.Second), min(c.most, m.now+30*time.Second+askedLate)
			m.claims[claimKey(source, who)] = c
		}
	}
}

// note takes over what sources were asked, which they answer, and holds the limits.
func (m *sourceModel) note() {
	asked := m.watching.asked
	m.watching.asked = nil
	for _, w := range asked {
		if !m.running[w.Source] && len(w.Watch) > 0 {
			m.rapid.Fatalf("at %v: source %d is asked while it is down", m.now, w.Source)
		}
		for _, target := range w.Watch {
			m.asked = append(m.asked, modelAsk{w.Source, m.now})
			m.report(w.Source, SourceReport{Subscriptions: []SubscriptionReport{{Presentity: target.Presentity, State: Subscribed}}})
		}
	}
	for source := range m.running {
		within := 0
		for _, a := range m.asked {
			if a.source == source && a.at > m.now-time.Second {
				within++
			}
		}
		if within > 3 {
			m.rapid.Fatalf("at %v: source %d is asked %d times within a second", m.now, source, within)
		}
	}
	m.asked = slices.DeleteFunc(m.asked, func(a modelAsk) bool { return a.at <= m.now-time.Second })
}

// check compares presence with the claims that hold, and that may hold.
func (m *sourceModel) check() {
	order := DefaultPrecedence()
	for _, who := range modelUsers {
		least, most := len(order), len(order)
		possible := []State{Available}
		for source := range m.running {
			c, ok := m.claims[claimKey(source, who)]
			at := slices.Index(order, c.state)
			// The engine looks at the clock by the wheel's tick.
			if ok && c.until > m.now {
				least = min(least, at)
			}
			if ok && c.most+wheelTick > m.now {
				most = min(most, at)
				possible = append(possible, c.state)
			}
		}
		v, found := m.e.View(who)
		if !found {
			v.State = Available
		}
		got := slices.Index(order, v.State)
		if v.State == Available && !slices.Contains(possible[1:], Available) {
			got = len(order) // nobody says anything
		}
		if got > least || got < most || !slices.Contains(possible, v.State) {
			m.rapid.Fatalf("at %v: %s is %v, by %+v", m.now, who, v.State, m.claims)
		}
		if found && len(v.Publications) > 0 && v.State.Published() != (v.Publications[0].Has != Unknown) {
			m.rapid.Fatalf("at %v: %s is %v, and published is %v", m.now, who, v.State, v.Publications[0].Has)
		}
	}
}

// settle has everything work: then everybody who is watched is asked for, and watched.
func (m *sourceModel) settle() {
	for source := range m.running {
		if !m.running[source] {
			m.up(source, SourceInfo{})
			m.running[source] = true
		}
		m.works[source] = false
		m.connector(source, true)
	}
	for end := m.now + 3*time.Minute; m.now < end; {
		m.pass(wheelTick)
		for _, w := range m.watching.asked {
			for _, target := range w.Watch {
				m.e.Report(w.Source, SourceReport{Subscriptions: []SubscriptionReport{{Presentity: target.Presentity, State: Subscribed}}})
			}
		}
		m.watching.asked = nil
	}
	for who := range m.watched {
		v, _ := m.e.View(who)
		for source := range m.running {
			if s := m.e.byURI[who].subs[source]; s.state != Subscribed {
				m.rapid.Fatalf("%s is not watched by source %d at the end: %+v", who, source, v.Sources)
			}
		}
	}
	for source, st := range m.e.SourceStatuses() {
		total := 0
		for _, n := range st.Words {
			total += n
		}
		if total != len(m.watched) || st.Waiting != 0 {
			m.rapid.Fatalf("source %d counts %v of %d, %d wait", source, st.Words, len(m.watched), st.Waiting)
		}
		for who := range m.watched {
			v, _ := m.e.View(who)
			if st.Words[v.Sources[source].Status] == 0 {
				m.rapid.Fatalf("source %d: %s is %q, which is not counted: %v", source, who, v.Sources[source].Status, st.Words)
			}
		}
	}
}
