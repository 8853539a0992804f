package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/kamailio"
)

// heard is what a sidecar's adapter makes of a stand-in's frames.
type heard struct {
	mu     sync.Mutex
	epoch  string
	doubts []string
	calls  []busylamp.CallEvent
}

func (h *heard) Connected(_ int, epoch string) { h.note(func() { h.epoch = epoch }) }
func (h *heard) Disconnected(int)              { h.note(func() { h.epoch = "" }) }
func (h *heard) Doubt(_ int, why string)       { h.note(func() { h.doubts = append(h.doubts, why) }) }
func (h *heard) Calls(_ int, events []busylamp.CallEvent) {
	h.note(func() { h.calls = append(h.calls, events...) })
}

func (h *heard) note(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

// TestStandin: a stand-in says what a proxy would, so that what is measured behind it is what a
// proxy would cause: calls by whom, no more and no fewer, an empty list, and an answer to a PUBLISH.
func TestStandin(t *testing.T) {
	s, err := newStandin()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h := &heard{}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		kamailio.NewEvents(kamailio.Config{Name: "p", Evapi: s.events.Addr().String(), Log: slog.New(slog.DiscardHandler)}, h).Run(ctx)
	})
	defer running.Wait()
	defer cancel()
	await(t, "a connection", func() bool { return s.say(nil) == nil && h.epoch == standinEpoch }, h)
	const calls = 3 * linesOf / 2
	for d := range dialog(calls) {
		if err := s.begin(d); err != nil {
			t.Fatal(err)
		}
	}
	all := make([]dialog, calls)
	for i := range all {
		all[i] = dialog(i)
	}
	if err := s.end(all...); err != nil {
		t.Fatal(err)
	}
	await(t, "all calls and their ends", func() bool { return len(h.calls) == 2*calls }, h)
	people := make(map[string]bool)
	for _, ev := range h.calls {
		if ev.Stage == busylamp.Confirmed {
			people[ev.Caller], people[ev.Callee] = true, true
		}
	}
	if len(people) != 2*calls || !people[fmt.Sprintf("sip:b%08d@example.com", calls-1)] || len(h.doubts) > 0 {
		t.Errorf("%d people, want %d; doubts: %q", len(people), 2*calls, h.doubts)
	}
	rpc, err := kamailio.NewRPC("http://" + s.rpc.Addr + "/RPC")
	if err != nil {
		t.Fatal(err)
	}
	if l, err := kamailio.NewTruth(rpc).List(ctx); err != nil || l.Epoch != standinEpoch || len(l.Live) != 0 {
		t.Errorf("the list is %+v, %v", l, err)
	}
	conn, err := net.Dial("udp", fmt.Sprint("127.0.0.1:", s.port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(samplePublish)); err != nil {
		t.Fatal(err)
	}
	await(t, "an answer to a PUBLISH", func() bool { return s.asked.Load() == 1 }, h)
}

func await(t *testing.T, what string, is func() bool, h *heard) {
	t.Helper()
	for range 2000 {
		ok := false
		h.note(func() { ok = is() })
		if ok {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("20 s without %s", what)
}
