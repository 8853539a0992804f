package pluginhost

import (
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

// up and broken are the reports of two connectors' states.
var up, broken = []busylamp.SourceReport{{Connector: busylamp.ConnectorUp}}, []busylamp.SourceReport{{Connector: busylamp.ConnectionError}}

// flipping has a connector change at every turn, for so long, with a sink that takes so long
// for each. It returns how many changes there were, and whether they were found to be a flood.
func flipping(pause, sink, long time.Duration) (changes int, flood bool) {
	start := time.Unix(0, 0)
	now := start
	f := newFlips(defaultTiming(), now)
	for ; now.Sub(start) < long && !flood; changes++ {
		var wait time.Duration
		wait, flood = f.take([][]busylamp.SourceReport{up, broken}[changes%2], now, 10*time.Second)
		f.away += sink
		now = now.Add(sink + max(pause, wait))
	}
	return changes, flood
}

// TestFlips: of a connector that comes and goes the core sees one change a second and a few at
// once, and a plugin that goes on so is at fault, however slow the core is.
func TestFlips(t *testing.T) {
	for _, c := range []struct {
		name        string
		pause, sink time.Duration
		most        int
		flood       bool
	}{
		{"as fast as can be", 0, 0, 15, true},
		{"twice a second", 500 * time.Millisecond, 0, 20, true},
		{"once in two seconds", 2 * time.Second, 0, 50, false},
		{"with a slow core", 0, 300 * time.Millisecond, 15, true},
		{"with a core that does nothing else", 0, 3 * time.Second, 15, true},
	} {
		if n, flood := flipping(c.pause, c.sink, 100*time.Second); n > c.most || flood != c.flood {
			t.Errorf("%s: a flood: %v, after %d changes", c.name, flood, n)
		}
	}
	f := newFlips(defaultTiming(), time.Unix(0, 0))
	for range 1000 {
		if wait, flood := f.take(up, time.Unix(0, 0), time.Second); wait > 0 || flood {
			t.Fatal("who says the same again is held up")
		}
	}
}

// TestBlip: a short failure is reported at once and whole, and what follows it follows it.
func TestBlip(t *testing.T) {
	t.Parallel()
	l := listen(t)
	h := newHost(t, quick())
	h.Apply([]Config{of("one", install(t, plugins(t), "raw"), `{"do":"blip"}`, nil)}, l)
	l.up(0)
	var got []busylamp.ConnectorState
	l.until(0, "claim", func(r busylamp.SourceReport) bool {
		if n := len(got); r.Connector != 0 && (n == 0 || got[n-1] != r.Connector) {
			got = append(got, r.Connector)
		}
		return len(r.Statements) > 0
	})
	if len(got) != 3 || got[1] != busylamp.ConnectionError || got[2] != busylamp.ConnectorUp {
		t.Errorf("before the claim: %v", got)
	}
}
