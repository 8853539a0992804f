package busylamp

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestTakeOverOfMany: more than are let go at once are all let go, within seconds, and their
// takeover is not told as if everybody had just begun a call.
func TestTakeOverOfMany(t *testing.T) {
	const many = 2*letGoAtOnce + 1
	e, err := New(Config{Proxies: []string{"p1"}, Directory: testDirectory{}, Publishers: []PublisherConfig{{Name: "s", Max: many}}})
	if err != nil {
		t.Fatal(err)
	}
	records := make([]Record, many)
	for i := range records {
		records[i] = Record{Publisher: "s", Presentity: Presentity(user(i)), Tag: fmt.Sprint("t", i), State: OnThePhone, Expires: 10 * time.Minute, Refresh: 5 * time.Minute}
	}
	e.TakeOver(records)
	if w := e.Take(); len(w.Changes) > 0 || len(w.Publish) > 0 || e.Live() != many {
		t.Fatalf("%d changes, %d requests and %d live of %d after the takeover", len(w.Changes), len(w.Publish), e.Live(), many)
	}
	e.Connected(0, "1")
	l := e.Take().Lists[0]
	e.Listed(0, l.ID, Listing{Epoch: "1"})
	e.Resynced(0, l.ID)
	for removals, now := 0, time.Duration(0); removals < many; now += wheelTick {
		if now > time.Second {
			t.Fatalf("%d of %d were let go within %v", removals, many, now)
		}
		e.Advance(now)
		requests := slices.Clone(e.Take().Publish)
		e.Advance(now + wheelTick/2) // the loop does so for each batch of messages
		if more := e.Take().Publish; len(requests) > 2*letGoAtOnce || len(more) > 0 {
			t.Fatalf("%d, and %d more, within one tick", len(requests), len(more))
		}
		for _, p := range requests {
			removals++
			e.Settled(p.Request, Outcome{Result: Accepted, Code: 200})
		}
	}
	if n := e.Stats().People; n != 0 {
		t.Errorf("%d people are left", n)
	}
}
