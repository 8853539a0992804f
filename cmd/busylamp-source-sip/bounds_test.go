package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
	"github.com/busylamp/busylamp/plugin"
)

// TestMost: max_subscriptions holds, and says which key it is.
func TestMost(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", serving)
	h, _ := start(t, to(n, "max_subscriptions", 2))
	h.watch(alice, "sip:b@example.com", "sip:c@example.com")
	if s := h.sub("sip:c@example.com", plugin.Failed); !strings.Contains(s.Reason, "max_subscriptions") {
		t.Errorf("%+v", s)
	}
	h.unwatch(alice)
	h.watch("sip:c@example.com")
	h.sub("sip:c@example.com", plugin.Active)
}

// TestInFlight: no more SUBSCRIBEs than the bound wait for answers at a time.
func TestInFlight(t *testing.T) {
	t.Parallel()
	held := make(chan func(), 10*maxInFlight)
	n := newNotifier(t, "udp", func(d *told, r siptest.Request) {
		if d.requests == 1 && r.Header("Expires") != "0" {
			held <- func() { serving(d, r) }
		}
	})
	h, stop := start(t, to(n))
	for i := range 2 * maxInFlight {
		h.watch(fmt.Sprintf("sip:u%d@example.com", i))
	}
	seen := map[string]bool{}
	for len(seen) < maxInFlight {
		seen[n.subscribed().Header("Call-ID")] = true
	}
	time.Sleep(100 * time.Millisecond)
	n.mu.Lock()
	if len(n.dialogs) != maxInFlight {
		t.Errorf("%d are asked at a time", len(n.dialogs))
	}
	n.mu.Unlock()
	for range 2 * maxInFlight {
		select {
		case answer := <-held:
			answer()
		case <-time.After(patience):
			t.Fatal("the others are not asked")
		}
	}
	stop()
}

// TestGoodbye: at the end every notifier is told, and that does not wait for one that is dead.
func TestGoodbye(t *testing.T) {
	t.Parallel()
	for _, dead := range []bool{false, true} {
		n := newNotifier(t, "udp", func(d *told, r siptest.Request) {
			if r.Header("Expires") != "0" || !dead {
				serving(d, r)
			}
		})
		h, stop := start(t, to(n))
		for i := range 100 {
			h.watch(fmt.Sprintf("sip:u%d@example.com", i))
		}
		h.active(100)
		began := time.Now()
		stop()
		if took := time.Since(began); took > 2*goodbye {
			t.Errorf("took %v", took)
		}
		n.mu.Lock()
		ended := 0
		for _, d := range n.dialogs {
			if d.expires == "0" {
				ended++
			}
		}
		n.mu.Unlock()
		if ended != 100 {
			t.Errorf("%d have been told", ended)
		}
	}
}
