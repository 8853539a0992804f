package busylamp

import (
	"context"
	"strconv"
	"testing"
	"time"
)

// echoTag answers at once, with the presentity as the entity-tag.
type echoTag struct{}

func (echoTag) Publish(_ context.Context, r Request) Outcome {
	return Outcome{Result: Accepted, Code: 200, Tag: string(r.Presentity), Expires: time.Hour}
}

// everybody is a directory in which everybody is who they say.
type everybody struct{}

func (everybody) Presentity(uri string) (Presentity, error) { return ParsePresentity(uri) }
func (everybody) DisplayName(Presentity) string             { return "" }

// TestOutcomesAreTheirOwn: whoever sends one request after another settles each with its own
// outcome, however long the engine takes to hear of it.
func TestOutcomesAreTheirOwn(t *testing.T) {
	const people = 512
	e, err := New(Config{Directory: everybody{}, Publishers: []PublisherConfig{{Name: "p", Max: 64}}})
	if err != nil {
		t.Fatal(err)
	}
	l := NewLoop(e, LoopConfig{Publishers: []Publisher{echoTag{}}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { l.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	for round := range 40 {
		state := []State{OnThePhone, Busy}[round%2]
		err := l.Do(ctx, func(e *Engine) {
			for i := range people {
				e.Claim(Presentity("sip:u"+strconv.Itoa(i)+"@example.com"), Claim{Source: "test", State: state})
			}
		})
		left := people
		for end := time.Now().Add(20 * time.Second); err == nil && left > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("round %d: %d requests have no outcome", round, left)
			}
			err = l.Do(ctx, func(e *Engine) { left = e.Outstanding() + e.publishers[0].waiting() })
		}
		if err != nil {
			t.Fatal(err)
		}
		check := func(e *Engine) {
			for _, who := range e.people {
				if p := &who.pubs[0]; p.tag != string(who.uri) || p.has != state {
					t.Errorf("round %d: %s has tag %q and state %v", round, who.uri, p.tag, p.has)
				}
			}
		}
		if err := l.Do(ctx, check); err != nil || t.Failed() {
			t.FailNow()
		}
	}
}
