package kamailio

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

// nobody is a Sink that forgets.
type nobody struct{}

func (nobody) Connected(int, string)           {}
func (nobody) Disconnected(int)                {}
func (nobody) Doubt(int, string)               {}
func (nobody) Calls(int, []busylamp.CallEvent) {}

// TestSessionAllocations is the budget of decoding: a slice for the events of a batch, and a
// string for all their text.
func TestSessionAllocations(t *testing.T) {
	for _, c := range []struct {
		name          string
		frames, lines int
		kind          string
		most          float64
	}{
		{"a heartbeat", 1, 1, "h", 1},
		{"a call", 1, 1, "c", 2},
		{"an end", 1, 1, "x", 1},
		{"20 calls in a frame", 1, 20, "c", 2},
		{"20 ends in a frame", 1, 20, "x", 1},
		{"20 calls in 20 frames", 20, 1, "c", 2},
		{"60 ends in 20 frames", 20, 3, "x", 1},
	} {
		s := newSession(NewEvents(Config{Log: slog.New(slog.DiscardHandler)}, nobody{}))
		s.batch([][]byte{[]byte("busylamp/1 1795283578.123456\nh 0 -")})
		const runs = 100
		seq := uint32(0)
		var batches [][][]byte
		for range runs + 1 { // one to warm up
			var batch [][]byte
			for range c.frames {
				lines := []string{"busylamp/1 1795283578.123456"}
				for range c.lines {
					seq++
					ev := busylamp.CallEvent{Dialog: busylamp.DialogID{Entry: 1, ID: seq}, Stage: busylamp.Ended, Seq: seq}
					if c.kind == "c" {
						ev.Stage, ev.Caller, ev.Callee, ev.CallID = busylamp.Confirmed, "sip:alice@example.com", "sip:bob@example.com", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6@example.com"
					}
					line := encode(ev)
					if c.kind == "h" {
						line = fmt.Sprintf("h %d -", seq)
					}
					lines = append(lines, line)
				}
				batch = append(batch, []byte(strings.Join(lines, "\n")))
			}
			batches = append(batches, batch)
		}
		n := 0
		if got := testing.AllocsPerRun(runs, func() { s.batch(batches[n]); n++ }); got > c.most {
			t.Errorf("%s: %v allocations, at most %v", c.name, got, c.most)
		}
		if s.failed != nil || s.Count.BadLines.Load() > 0 || s.seq.top != seq || c.kind != "h" && s.seq.base != seq {
			t.Errorf("%s: %v, %d bad lines, up to %d of %d", c.name, s.failed, s.Count.BadLines.Load(), s.seq.base, seq)
		}
	}
}

// TestSessionFails: what came in a batch before a frame that cannot be believed is told, and
// nothing of that frame or behind it.
func TestSessionFails(t *testing.T) {
	for _, bad := range []string{"busylamp/1 2\nx 8 1:8", "busylamp/1 1\nx 8 1:8" + strings.Repeat("\nx 9 1:9", maxEvents), "x 8 1:8"} {
		sink := &recorder{}
		s := newSession(NewEvents(Config{Log: slog.New(slog.DiscardHandler)}, sink))
		s.batch([][]byte{[]byte("busylamp/1 1\nh 6 -"), []byte("busylamp/1 1\nx 7 1:7"), []byte(bad), []byte("busylamp/1 1\nx 10 1:10")})
		s.batch([][]byte{[]byte("busylamp/1 1\nx 11 1:11")})
		if got := sink.String(); got != "connected 1, call 7" || s.failed == nil {
			t.Errorf("%.30q: %s; %v", bad, got, s.failed)
		}
	}
}

// TestSessionNeverRests: a hole is told even if the flood behind it has no end, though later.
func TestSessionNeverRests(t *testing.T) {
	sink := &recorder{}
	s := newSession(NewEvents(Config{Log: slog.New(slog.DiscardHandler)}, sink))
	s.batch([][]byte{[]byte("busylamp/1 1\nh 0 -"), []byte("busylamp/1 1\nx 1 1:1\nx 3 1:3")})
	now := s.counted
	for s.Count.Lost.Load() == 0 && now.Sub(s.counted) <= checkLeast {
		now = now.Add(checkEvery)
		s.check(now, false)
	}
	if got := sink.String(); got != "connected 1, call 1, call 3, doubt events lost" {
		t.Errorf("%s", got)
	}
	s.batch([][]byte{[]byte("busylamp/1 1\nx 2 1:2")})
	if got := sink.count("doubt an event came after it was given up"); got != 1 {
		t.Errorf("a late event: %d doubts", got)
	}
}

// calm is a proxy that has no calls to list, and everybody's directory.
type calm struct{}

func (calm) List(context.Context) (busylamp.Listing, error) {
	return busylamp.Listing{Epoch: "1"}, nil
}

func (calm) Details(context.Context, []busylamp.Listed, func([]busylamp.CallEvent)) error { return nil }

func (calm) Presentity(uri string) (busylamp.Presentity, error) { return busylamp.ParsePresentity(uri) }
func (calm) DisplayName(busylamp.Presentity) string             { return "" }

// TestFloodInEffect: 80,000 events as fast as they go, in small frames, through kamevapi and
// its goroutines into an engine: at the end exactly those calls are up that have not ended,
// and nothing was taken for lost, too late, or too much.
func TestFloodInEffect(t *testing.T) {
	engine, err := busylamp.New(busylamp.Config{Proxies: []string{"proxy1"}, Directory: calm{}})
	if err != nil {
		t.Fatal(err)
	}
	loop := busylamp.NewLoop(engine, busylamp.LoopConfig{Proxies: []busylamp.Proxy{calm{}}})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); loop.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	p := newPeer(t)
	k, stop := run(t, p.addr(), loop, quick)
	defer stop()
	c := p.registered(t)
	say(t, c, "1", "h 0 -")
	look := func() (s busylamp.Stats, proxy busylamp.ProxyStatus) {
		if err := loop.Do(ctx, func(e *busylamp.Engine) { s, proxy = e.Stats(), e.ProxyStatuses()[0] }); err != nil {
			t.Fatal(err)
		}
		return s, proxy
	}
	eventually(t, 10*time.Second, "in step", func() bool { _, proxy := look(); return proxy.InStep })

	const calls, up, per, stays = 40_000, 1000, 3, 100 // up at a time; lines of a frame; one in so many has no end
	var flood, lines bytes.Buffer
	n, seq := 0, 0
	add := func(format string, dialog int, fields ...any) {
		seq++
		fmt.Fprintf(&lines, "\n"+format, append([]any{seq, dialog}, fields...)...)
		if n++; n%per == 0 {
			flood.Write(netstring("busylamp/1 1" + lines.String()))
			lines.Reset()
		}
	}
	party := func(n int) string { return b64(fmt.Sprintf("sip:user%d@example.com", n)) }
	for i := range calls + up {
		if i < calls {
			add("c %d 1:%d %s %s %s", i, party(2*i), party(2*i+1), b64("a Call-ID"))
		}
		if over := i - up; over >= 0 && over%stays != 0 {
			add("x %d 1:%d", over)
		}
	}
	flood.Write(netstring("busylamp/1 1" + lines.String() + fmt.Sprintf("\nh %d -", seq)))
	if _, err := c.Write(flood.Bytes()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "every event is taken", func() bool { s, _ := look(); return int(s.Events) == seq })
	s, proxy := look()
	if s.Calls != calls/stays || s.People != 2*calls/stays || s.Resyncs != 1 || s.Doubts != 0 || !proxy.InStep || k.Count.Lost.Load()+k.Count.Dropped.Load() > 0 {
		t.Errorf("%+v\n%d lost, %d dropped", s, k.Count.Lost.Load(), k.Count.Dropped.Load())
	}
	loop.Do(ctx, func(e *busylamp.Engine) {
		for i := 0; i < 2*calls; i += 2 {
			busy := i%(2*stays) == 0
			for _, who := range []string{fmt.Sprintf("sip:user%d@example.com", i), fmt.Sprintf("sip:user%d@example.com", i+1)} {
				if v, _ := e.View(busylamp.Presentity(who)); (v.State == busylamp.OnThePhone) != busy {
					t.Fatalf("%s is %v, in a call: %v", who, v.State, busy)
				}
			}
		}
	})
}

// TestDoubtComesAfter: the list that an unreadable line makes the engine ask for is to be later
// than the events that came beside the line, or it says nothing of them.
func TestDoubtComesAfter(t *testing.T) {
	var r recorder
	s := newSession(NewEvents(Config{Log: slog.New(slog.DiscardHandler)}, &r))
	call := encode(busylamp.CallEvent{Dialog: busylamp.DialogID{Entry: 1, ID: 2}, Stage: busylamp.Confirmed, Seq: 5, Caller: "sip:alice@example.com", Callee: "sip:bob@example.com", CallID: "c1"})
	s.batch([][]byte{[]byte("busylamp/1 1.1\n" + call), []byte("busylamp/1 1.1\nx 6 nonsense\nh 6 -")})
	all := r.what
	if len(all) < 2 || !strings.HasPrefix(all[len(all)-1], "doubt unreadable") {
		t.Errorf("%q", all)
	}
}
