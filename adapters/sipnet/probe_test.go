package sipnet

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// requests counts the requests of a method to a server by their Call-IDs.
func requests(srv *siptest.Server, method string) int {
	ids := map[string]bool{}
	for _, r := range srv.All() {
		if strings.HasPrefix(r.Raw, method+" ") {
			ids[r.Header("Call-ID")] = true
		}
	}
	return len(ids)
}

// TestReturnWithoutOPTIONS: a server that answers no OPTIONS is returned to all the same. Of
// many requests one tries it, and is answered by the next server if it is still silent.
func TestReturnWithoutOPTIONS(t *testing.T) {
	t.Parallel()
	var dead atomic.Bool
	first := siptest.New(t, "udp", "127.0.0.1:0", func(r siptest.Request) {
		if !dead.Load() && strings.HasPrefix(r.Raw, "PUBLISH ") {
			r.Accept("first")
		}
	})
	second := newServer(t, "udp", "second")
	pace := quick()
	pace.probeEvery, pace.probeTime = 50*time.Millisecond, 25*time.Millisecond
	c := newZone(t, join(srv("udp", first.Addr(), 10, 0), srv("udp", second.Addr(), 20, 0))...).client(t, "udp", pace)
	due := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.trial(time.Now()) != nil
	}
	accepted(t, c)
	dead.Store(true)
	if tag := accepted(t, c); tag != "second" {
		t.Fatalf("at %s", tag)
	}
	before := requests(first, "PUBLISH")
	eventually(t, "a request is to try the first", due)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if tag := accepted(t, c); tag != "second" {
				t.Errorf("at %s", tag)
			}
		})
	}
	all.Wait()
	if n := requests(first, "PUBLISH") - before; n != 1 {
		t.Errorf("%d requests to a server that is silent", n)
	}
	dead.Store(false)
	eventually(t, "another request is to try it", due)
	if tag := accepted(t, c); tag != "first" || inUse(c) != first.Addr() {
		t.Errorf("at %s, in use %s", tag, inUse(c))
	}
}

// TestTrial: the times between two requests that try a server grow, up to a bound. None
// tries one that cannot be connected to, is to be left alone, or would not be returned to.
func TestTrial(t *testing.T) {
	t.Parallel()
	c := clientOf(t, Config{Server: Target{Host: "presence.test", Transport: "udp"}}, normal)
	var places []place
	for i, priority := range []uint16{10, 20, 20} {
		places = append(places, place{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(i+1)), "h", priority})
	}
	c.learn(places)
	first, second, third := c.hops[0], c.hops[1], c.hops[2]
	c.fell(first, "test", 0, true)
	for range 2 * mostVain {
		c.forget(first, errConnect)
	}
	for _, needs := range []int{12, 24, 48, 60, 60} {
		for n := range needs {
			if h := c.choose(nil); h != second {
				t.Fatalf("%v is tried after %d probes, want %d", h.addr, n, needs)
			}
			c.forget(first, errors.New("test"))
		}
		first.until = time.Now().Add(time.Minute)
		if c.choose(nil) != second {
			t.Error("it is tried before its time")
		}
		first.until = time.Time{}
		if h := c.choose([]*hop{second}); h != third {
			t.Errorf("%v is tried by a request that comes from elsewhere", h.addr)
		}
		if h := c.choose(nil); h != first {
			t.Fatalf("it is not tried after %d probes", needs)
		}
	}
	c.rose(first, true)
	c.fell(first, "test", 0, true)
	if first.vain != 0 || first.needs != firstVain {
		t.Errorf("after a return: %d of %d", first.vain, first.needs)
	}
	first.owes = 1
	if c.rose(first, false); first.owes != 1 || first.down {
		t.Errorf("an answer to OPTIONS: it owes %d, down: %v", first.owes, first.down)
	}
	if c.rose(first, true); first.owes != 0 {
		t.Errorf("an answer to a request: it owes %d", first.owes)
	}
	c.fell(first, "test", 0, true)
	c.fell(second, "test", 0, true)
	c.rose(second, true)
	for range 2 * mostVain {
		c.forget(second, errors.New("test"))
	}
	if h := c.choose(nil); h != third {
		t.Errorf("%v is tried, which is no better than the one in use", h.addr)
	}
}

// TestRequestWithoutAnswer: one request that a server never answers does not take down a
// server that is well: it answers OPTIONS. One that does not, or that answers nothing else,
// is left. Where there is one server only, it is not asked.
func TestRequestWithoutAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		transport                string
		requests                 int
		mute, alone, asked, left bool
	}{
		"UDP":        {transport: "udp", requests: mostOwed, asked: true},
		"TCP":        {transport: "tcp", requests: mostOwed, asked: true},
		"no OPTIONS": {transport: "udp", requests: 1, mute: true, asked: true, left: true},
		"no service": {transport: "udp", requests: mostOwed + 1, left: true},
		"alone":      {transport: "udp", requests: 1, alone: true, left: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := siptest.New(t, tc.transport, "127.0.0.1:0", func(r siptest.Request) {
				if r.Header("Subject") == "" && (!tc.mute || !strings.HasPrefix(r.Raw, "OPTIONS ")) {
					r.Accept("first")
				}
			})
			second := newServer(t, tc.transport, "second")
			records := srv(tc.transport, first.Addr(), 10, 0)
			if !tc.alone {
				records = join(records, srv(tc.transport, second.Addr(), 20, 0))
			}
			pace := quick()
			pace.silence, pace.streamSilence, pace.probeEvery = 900*time.Millisecond, 1800*time.Millisecond, time.Hour
			log := &logged{}
			c := newZone(t, records...).client(t, tc.transport, pace, log.to())
			accepted(t, c)
			ctx, cancel := context.WithTimeout(t.Context(), 3*pace.silence)
			defer cancel()
			var all sync.WaitGroup
			for range tc.requests {
				all.Go(func() {
					if _, err := c.Do(ctx, message(10)); (err == nil) != (tc.left && !tc.alone) {
						t.Error(err)
					}
				})
			}
			all.Wait()
			asked, up := requests(first, "OPTIONS"), c.Status().Hops[0].Up
			if up == tc.left || (asked > 0) != tc.asked {
				t.Errorf("up: %v, asked %d times, log:\n%s", up, asked, log)
			}
			if !tc.left && (second.publish.Load() != 0 || log.count("a server is left") != 0) {
				t.Errorf("%d requests at the second, log:\n%s", second.publish.Load(), log)
			}
		})
	}
}

// TestDNSAnswersAsServersFall: the race detector sees who shares what of a hop.
func TestDNSAnswersAsServersFall(t *testing.T) {
	t.Parallel()
	log := &logged{}
	cfg := Config{Server: Target{Host: "presence.test", Transport: "udp"}}
	log.to()(&cfg)
	c := clientOf(t, cfg, quick())
	places := []place{{netip.MustParseAddrPort("127.0.0.1:1"), "a", 1}, {netip.MustParseAddrPort("127.0.0.1:2"), "b", 2}}
	c.learn(places)
	h := c.hops[0]
	var both sync.WaitGroup
	both.Go(func() {
		for range 1000 {
			c.learn(places)
		}
	})
	both.Go(func() {
		for range 1000 {
			c.fell(h, "test", 0, true)
			c.rose(h, true)
		}
	})
	both.Wait()
	if n := log.count("address=127.0.0.1:1"); n != 2000 {
		t.Errorf("%d lines of log, want 2000", n)
	}
}
