package busylamp

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// What an event, an answer and a publication may cost. These are counts and not times: where one
// is above its budget, something came into the core that is made anew each time.

// budgeted is an engine whose server accepts everything with the next of many entity-tags.
type budgeted struct {
	*Engine
	tags []string
	tag  int
}

func newBudgeted(t *testing.T) *budgeted {
	t.Helper()
	e, err := New(Config{Proxies: []string{"p1"}, Directory: testDirectory{}, Durable: true, Publishers: []PublisherConfig{{Name: "s", Expires: 600 * time.Second}}})
	if err != nil {
		t.Fatal(err)
	}
	b := &budgeted{Engine: e}
	for i := range 64 {
		b.tags = append(b.tags, fmt.Sprintf("a.1754000000.12345.%d", i))
	}
	b.Connected(0, "1")
	for _, l := range b.Take().Lists {
		b.Listed(0, l.ID, Listing{Epoch: "1"})
		b.Resynced(0, l.ID)
	}
	return b
}

// answer accepts what was sent, until nothing is.
func (b *budgeted) answer() {
	for w := b.Take(); len(w.Publish) > 0; w = b.Take() {
		for _, p := range w.Publish {
			b.tag++
			b.Settled(p.Request, Outcome{Result: Accepted, Tag: b.tags[b.tag%len(b.tags)], Expires: p.Request.Expires, Code: 200, Reason: "OK"})
		}
	}
}

func TestAllocationBudgets(t *testing.T) {
	b := newBudgeted(t)
	one := make([]CallEvent, 1)
	begin := CallEvent{Dialog: DialogID{1, 1}, Stage: Confirmed, Caller: user(1), Callee: user(2), CallID: "f81d4fae-7dec-11d0-a765-00a0c91e6bf6@pbx"}
	tell := func(ev CallEvent) {
		one[0] = ev
		b.Calls(0, one)
	}
	other := begin
	other.Dialog.ID = 2
	end := CallEvent{Dialog: other.Dialog, Stage: Ended}
	for _, c := range []struct {
		what   string
		before func()
		run    func()
		most   float64
	}{
		{"a call of two people, its two PUBLISH, its end and the two removals: two people, their two URIs, the call and its Call-ID", nil, func() {
			other.Dialog.ID++
			end.Dialog = other.Dialog
			tell(other)
			b.answer()
			tell(end)
			b.answer()
		}, 6},
		{"a second call of the same two, and its end: the call and its Call-ID", func() { tell(begin); b.answer() }, func() {
			other.Dialog.ID++
			end.Dialog = other.Dialog
			tell(other)
			tell(end)
		}, 2},
		{"a start that is told again", nil, func() { tell(begin) }, 0},
		{"a refresh and its answer", nil, func() {
			for _, who := range b.people {
				b.refreshNow(&who.pubs[0])
			}
			b.dispatch()
			b.answer()
		}, 0},
		{"a tick with nothing to do", nil, func() { b.Advance(b.now + wheelTick) }, 0},
	} {
		if c.before != nil {
			c.before()
		}
		if got := testing.AllocsPerRun(1000, c.run); got > c.most { // the maps' growth is below one
			t.Errorf("%s: %.0f allocations, at most %.0f", c.what, got, c.most)
		}
	}
}

// TestBytesOfAPublication: the live heap by publications, the calls and all strings included. A
// process is larger by what the collector leaves lying about.
func TestBytesOfAPublication(t *testing.T) {
	const calls, most = 50_000, 480
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b := newBudgeted(t)
	for i := range calls {
		b.Calls(0, []CallEvent{{Dialog: DialogID{uint32(i) % 4096, uint32(i)}, Stage: Confirmed, Seq: uint32(i),
			Caller: fmt.Sprintf("sip:a%08d@example.com", i), Callee: fmt.Sprintf("sip:b%08d@example.com", i),
			CallID: fmt.Sprintf("%08d-7dec-11d0-a765-00a0c91e6bf6@pbx", i)}})
		for w := b.Take(); len(w.Publish) > 0; w = b.Take() {
			for _, p := range w.Publish {
				b.tag++
				b.Settled(p.Request, Outcome{Result: Accepted, Tag: fmt.Sprintf("a.1754000000.12345.%d", b.tag), Expires: p.Request.Expires, Code: 200})
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n := b.Live(); n != 2*calls {
		t.Fatalf("%d publications, want %d", n, 2*calls)
	}
	if each := (after.HeapAlloc - before.HeapAlloc) / (2 * calls); each > most {
		t.Errorf("%d bytes for each publication, at most %d", each, most)
	} else {
		t.Logf("%d bytes for each publication", each)
	}
	runtime.KeepAlive(b)
}
