package sipnet

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// server is a scripted one that a test takes down and brings back.
type server struct {
	*siptest.Server
	tag     string
	mode    atomic.Value // "", "silent", "hang up", or a status line
	publish atomic.Int32 // requests that were no probes
}

func (s *server) is(mode string) { s.mode.Store(mode) }

func (s *server) script(r siptest.Request) {
	if strings.HasPrefix(r.Raw, "PUBLISH ") {
		s.publish.Add(1)
	}
	switch mode := s.mode.Load().(string); {
	case mode == "silent":
	case mode == "hang up":
		r.HangUp()
	case mode != "":
		status, headers, _ := strings.Cut(mode, "\n")
		r.Reply(r.Answer(status, strings.Fields(headers)...))
	default:
		r.Accept(s.tag)
	}
}

func newServer(t *testing.T, transport, tag string) *server {
	s := &server{tag: tag}
	s.is("")
	s.Server = siptest.New(t, transport, "127.0.0.1:0", s.script)
	return s
}

// TestFailOver: whatever befalls the first server, the request that meets with it is
// answered by the second, further ones go there, and all return when the first is back.
func TestFailOver(t *testing.T) {
	for name, tc := range map[string]struct {
		transport, mode, why string
	}{
		"UDP silent":      {"udp", "silent", "nothing heard from"},
		"TCP silent":      {"tcp", "silent", "nothing heard from"},
		"TCP hangs up":    {"tcp", "hang up", "lost: EOF"},
		"503":             {"udp", "503 Service Unavailable", "503 Service Unavailable"},
		"503 Retry-After": {"udp", "503 Overload\nRetry-After:1;duration=60", "503 Overload, to be asked again in 1s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := newServer(t, tc.transport, "first"), newServer(t, tc.transport, "second")
			z := newZone(t, join(srv(tc.transport, first.Addr(), 10, 0), srv(tc.transport, second.Addr(), 20, 0))...)
			log := &logged{}
			c := z.client(t, tc.transport, quick(), log.to())
			if tag := accepted(t, c); tag != "first" {
				t.Fatalf("at %s", tag)
			}
			first.is(tc.mode)
			down := time.Now()
			if tag := accepted(t, c); tag != "second" {
				t.Fatalf("at %s", tag)
			}
			a, b := first.All(), second.All()
			if x, y := a[1].Header("Via"), b[0].Header("Via"); x == y || a[1].Header("Call-ID") != b[0].Header("Call-ID") {
				t.Errorf("the same branch for another server: %s", x)
			}
			if s := c.Status().Hops; s[0].Up || s[0].InUse || !strings.Contains(s[0].Why, tc.why) || !s[1].Up || !s[1].InUse || s[0].Since.Before(down) {
				t.Errorf("%+v", s)
			}
			before := first.publish.Load()
			for range 20 {
				if tag := accepted(t, c); tag != "second" {
					t.Fatalf("at %s", tag)
				}
			}
			if n := first.publish.Load() - before; n != 0 {
				t.Errorf("%d requests to a server that is down", n)
			}
			first.is("")
			eventually(t, "the first is back", func() bool { return inUse(c) == first.Addr() })
			if tag := accepted(t, c); tag != "first" {
				t.Errorf("at %s", tag)
			}
			if strings.Contains(tc.mode, "Retry-After") && time.Since(down) < time.Second {
				t.Errorf("asked again after %v", time.Since(down))
			}
			if log.count("a server is left") != 1 || log.count("a server is back") != 1 {
				t.Errorf("log:\n%s", log)
			}
			settled(t, c, first)
		})
	}
}

// settled holds that a client at peace asks nobody anything.
func settled(t *testing.T, c *Client, s *server) {
	t.Helper()
	eventually(t, "no probing", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.probing
	})
	before := len(s.All())
	time.Sleep(3 * c.pace.probeEvery)
	if n := len(s.All()) - before; n != 0 {
		t.Errorf("%d probes of a server that is up", n)
	}
}

// TestFailOverOfAll: all that wait at a server which falls silent go on to the next.
func TestFailOverOfAll(t *testing.T) {
	t.Parallel()
	first, second := newServer(t, "udp", "first"), newServer(t, "udp", "second")
	first.is("silent")
	z := newZone(t, join(srv("udp", first.Addr(), 10, 0), srv("udp", second.Addr(), 20, 0))...)
	c := z.client(t, "udp", quick())
	finish(t, patience/2, begin(t, c, first.Server, 200))
	if n := second.publish.Load(); n < 200 {
		t.Errorf("%d requests at the second", n)
	}
}

// TestAllDown: requests are tried all the same, at each server once; and whichever is back
// first has those who still wait.
func TestAllDown(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		first, second := refuser(t), refuser(t)
		z := newZone(t, join(srv("tcp", first, 10, 0), srv("tcp", second, 20, 0))...)
		c := z.client(t, "tcp", quick())
		if _, err := send(c, patience); err == nil || !strings.Contains(err.Error(), second) {
			t.Error(err)
		}
		if got := inUse(c); got != "" {
			t.Errorf("%s in use", got)
		}
		siptest.New(t, "tcp", first, accept("first"))
		accepted(t, c)
	})
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		first, second := newServer(t, "udp", "first"), newServer(t, "udp", "second")
		first.is("silent")
		second.is("silent")
		z := newZone(t, join(srv("udp", first.Addr(), 10, 0), srv("udp", second.Addr(), 20, 0))...)
		c := z.client(t, "udp", quick())
		var requests sync.WaitGroup
		var atSecond atomic.Int32
		requests.Go(func() {
			if res, err := send(c, patience); err == nil && res.GetHeader("SIP-ETag").Value() == "second" {
				atSecond.Add(1)
			}
		})
		eventually(t, "all are down", func() bool { return len(c.Status().Hops) == 2 && inUse(c) == "" })
		for range 5 { // these wait at the first one
			requests.Go(func() {
				if res, err := send(c, patience); err == nil && res.GetHeader("SIP-ETag").Value() == "second" {
					atSecond.Add(1)
				}
			})
		}
		eventually(t, "they are on their way", func() bool { return first.publish.Load() >= 6 })
		second.is("")
		finish(t, patience/2, requests.Wait)
		if n := atSecond.Load(); n != 6 {
			t.Errorf("%d answers", n)
		}
	})
}

// TestEqualServers: between servers of one priority the first is returned to, but not one
// that merely comes earlier in the list than the one in use.
func TestEqualServers(t *testing.T) {
	t.Parallel()
	var servers []*server
	var records []string
	for i := range 3 {
		s := newServer(t, "udp", fmt.Sprint(i))
		servers = append(servers, s)
		records = append(records, srv("udp", s.Addr(), 10, 0)...)
	}
	c := newZone(t, records...).client(t, "udp", quick())
	accepted(t, c)
	order := addresses(c)
	at := func(i int) *server {
		for _, s := range servers {
			if s.Addr() == order[i] {
				return s
			}
		}
		return nil
	}
	at(0).is("503 Down")
	at(1).is("503 Down")
	if tag := accepted(t, c); tag != at(2).tag {
		t.Fatalf("at %s", tag)
	}
	at(1).is("")
	eventually(t, "the second is up", func() bool { return c.Status().Hops[1].Up })
	if tag := accepted(t, c); tag != at(2).tag {
		t.Errorf("at %s: moved to a server that is no better", tag)
	}
	at(0).is("")
	eventually(t, "the first is up", func() bool { return c.Status().Hops[0].Up })
	if tag := accepted(t, c); tag != at(0).tag {
		t.Errorf("at %s: not back at the first", tag)
	}
}

// TestDefinitiveAnswers: what is no 503 is no reason to ask another server.
func TestDefinitiveAnswers(t *testing.T) {
	t.Parallel()
	first, second := newServer(t, "udp", "first"), newServer(t, "udp", "second")
	z := newZone(t, join(srv("udp", first.Addr(), 10, 0), srv("udp", second.Addr(), 20, 0))...)
	c := z.client(t, "udp", quick())
	for _, status := range []string{"302 Moved", "401 Unauthorized", "404 Not Found", "408 Timeout", "412 Gone", "500 Broken", "504 Timeout", "603 Decline"} {
		first.is(status)
		if res, err := send(c, patience); err != nil || fmt.Sprint(res.StatusCode) != status[:3] {
			t.Errorf("%s: %v, %v", status, res, err)
		}
	}
	if n := len(second.All()); n != 0 {
		t.Errorf("%d requests at the second", n)
	}
}

// TestComesAndGoes: a server that is up and down again is asked after ever longer pauses.
func TestComesAndGoes(t *testing.T) {
	t.Parallel()
	c := clientOf(t, Config{Server: Target{Host: "presence.test", Transport: "udp"}}, quick())
	h := &hop{since: time.Now()}
	for _, want := range []time.Duration{1, 2, 4, 8} {
		c.fell(h, "test", 0, true)
		if want *= c.pace.probeEvery; h.pause != want {
			t.Errorf("a pause of %v, want %v", h.pause, want)
		}
		c.rose(h, true)
	}
	h.pause = maxPause
	c.fell(h, "test", 0, true)
	if h.pause != maxPause {
		t.Errorf("a pause of %v", h.pause)
	}
	c.rose(h, true)
	h.since = time.Now().Add(-3 * maxPause)
	c.fell(h, "test", 0, true)
	if h.pause != c.pace.probeEvery {
		t.Errorf("a pause of %v after it was well for long", h.pause)
	}
}

// TestServerDisappears: DNS no more knows the server in use, nor the one that is down.
func TestServerDisappears(t *testing.T) {
	t.Parallel()
	first, second := newServer(t, "udp", "first"), newServer(t, "udp", "second")
	z := newZone(t, join(srv("udp", first.Addr(), 10, 0), srv("udp", second.Addr(), 20, 0))...)
	c := z.client(t, "udp", quick())
	accepted(t, c)
	old := pathTo(c)
	z.set(t, srv("udp", second.Addr(), 20, 0)...)
	renew(t, c)
	if tag := accepted(t, c); tag != "second" {
		t.Errorf("at %s", tag)
	}
	if old.life.Err() == nil {
		t.Error("the old path is open")
	}
	z.set(t, join(srv("udp", first.Addr(), 10, 0), srv("udp", second.Addr(), 20, 0))...)
	renew(t, c)
	if tag := accepted(t, c); tag != "first" {
		t.Errorf("at %s: a better server has come", tag)
	}
	first.is("503 Down")
	accepted(t, c)
	z.set(t, srv("udp", second.Addr(), 20, 0)...)
	renew(t, c)
	settled(t, c, first)
}
