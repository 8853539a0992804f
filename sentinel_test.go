package busylamp

import (
	"testing"
	"time"
)

// TestServerLosesItsTable: 500 publications are gone at once, and nobody says so. Within
// 30 s all of them are there again.
func TestServerLosesItsTable(t *testing.T) {
	const n = 500
	e, err := New(Config{Proxies: []string{"p"}, Directory: testDirectory{}, Sides: SideCaller,
		Publishers: []PublisherConfig{{Name: "s"}}})
	if err != nil {
		t.Fatal(err)
	}
	server := simServer{entries: map[Presentity]map[string]simEntry{}}
	now := time.Duration(0)
	sent := 0
	pass := func(d time.Duration) {
		for end := now + d; now < end; {
			now += wheelTick
			e.Advance(now)
			for work := e.Take().Publish; len(work) > 0; work = e.Take().Publish {
				for _, p := range work {
					sent++
					e.Settled(p.Request, server.take(p.Request, now))
				}
			}
		}
	}
	for i := range n {
		e.Calls(0, []CallEvent{{Dialog: DialogID{1, uint32(i)}, Stage: Confirmed, Caller: user(i)}})
	}
	pass(time.Minute)
	server.entries, sent = map[Presentity]map[string]simEntry{}, 0
	pass(30 * time.Second)
	there := 0
	for i := range n {
		there += len(server.live(Presentity(user(i)), now))
	}
	if there != n {
		t.Errorf("%d of %d publications are there again", there, n)
	}
	if sent > 3*n {
		t.Errorf("%d requests for %d publications", sent, n)
	}
}
