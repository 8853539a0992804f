package sippublish

import (
	"context"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

func TestNoAnswer(t *testing.T) {
	t.Parallel()
	srv := newResponder(t, "udp", "127.0.0.1:0", nil)
	p := newPublisher(t, srv.addr(), "udp", timeout(2500*time.Millisecond))
	var o busylamp.Outcome
	finish(t, patience, func() { o = p.Publish(context.Background(), initial) })
	if want := (busylamp.Outcome{Result: busylamp.Failed, Reason: "no answer"}); o != want {
		t.Errorf("got %+v, want %+v", o, want)
	}
	// RFC 3261 section 17.1.2.2: at 0, 0.5 and 1.5 s, or later on a busy machine.
	calls := srv.all()
	if len(calls) < 2 || len(calls) > 3 {
		t.Fatalf("sent %d times, want 3", len(calls))
	}
	for _, c := range calls[1:] {
		if c.raw != calls[0].raw {
			t.Errorf("sent again as\n%s\nafter\n%s", c.raw, calls[0].raw)
		}
	}
	time.Sleep(1500 * time.Millisecond) // past 3.5 s
	if n := len(srv.all()); n > len(calls) {
		t.Errorf("sent %d times more after its end", n-len(calls))
	}
}

func TestLostPackets(t *testing.T) {
	t.Parallel()
	seen := 0
	srv := newResponder(t, "udp", "127.0.0.1:0", func(c call) {
		if seen++; seen > 2 {
			c.accept("t1")
		}
	})
	accepted(t, newPublisher(t, srv.addr(), "udp"), initial)
}

// TestServerComesBack: a server's restart is bridged by the transaction itself.
func TestServerComesBack(t *testing.T) {
	t.Parallel()
	free, err := net.ListenPacket("udp", "127.0.0.3:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.LocalAddr().String()
	free.Close()
	p := newPublisher(t, addr, "udp")
	done := make(chan busylamp.Outcome)
	go func() { done <- p.Publish(context.Background(), initial) }()
	time.Sleep(700 * time.Millisecond) // the port refuses twice
	newResponder(t, "udp", addr, func(c call) { c.accept("t1") })
	if o := <-done; o.Result != busylamp.Accepted {
		t.Errorf("%+v", o)
	}
}

func TestRefusedPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	p := newPublisher(t, l.Addr().String(), "udp", timeout(time.Second))
	if o := p.Publish(context.Background(), initial); o.Result != busylamp.Failed || o.Reason != "no answer" {
		t.Errorf("UDP: %+v", o)
	}
	p = newPublisher(t, l.Addr().String(), "tcp")
	o := p.Publish(context.Background(), initial)
	if o.Result != busylamp.Failed || !strings.Contains(o.Reason, l.Addr().String()) || !strings.Contains(o.Reason, "connection refused") {
		t.Errorf("TCP: %+v", o)
	}
}

func TestCancel(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			var answer atomic.Bool
			srv := newResponder(t, transport, "127.0.0.1:0", func(c call) {
				if answer.Load() {
					c.accept("t1")
				}
				cancel()
			})
			p := newPublisher(t, srv.addr(), transport, timeout(time.Minute))
			finish(t, patience, func() {
				if o := p.Publish(ctx, initial); o.Result != busylamp.Failed || o.Reason != "context canceled" {
					t.Errorf("%+v", o)
				}
				for range 20 {
					if o := p.Publish(ctx, initial); o.Result != busylamp.Failed {
						t.Errorf("canceled before: %+v", o)
					}
				}
			})
			answer.Store(true)
			accepted(t, p, initial)
			if n := srv.connections(); n > 1 {
				t.Errorf("%d connections: one canceled request ended that of all", n)
			}
		})
	}
}

func TestClose(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			srv := newResponder(t, transport, "127.0.0.1:0", nil)
			p := newPublisher(t, srv.addr(), transport, timeout(time.Minute))
			var under sync.WaitGroup
			for range 50 {
				under.Go(func() {
					if o := p.Publish(context.Background(), initial); o.Result != busylamp.Failed {
						t.Errorf("%+v", o)
					}
				})
			}
			eventually(t, "50 requests under way", func() bool { return len(srv.all()) >= 50 })
			finish(t, patience, func() {
				p.Close()
				under.Wait()
			})
			if o := p.Publish(context.Background(), initial); o.Result != busylamp.Failed || o.Reason != errClosed.Error() {
				t.Errorf("after Close: %+v", o)
			}
			if err := p.Close(); err != nil {
				t.Errorf("second Close: %v", err)
			}
		})
	}
}

// TestAnswerFromElsewhere: a server with several addresses may answer from another one.
func TestAnswerFromElsewhere(t *testing.T) {
	other, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	srv := newResponder(t, "udp", "127.0.0.1:0", func(c call) {
		to, _ := net.ResolveUDPAddr("udp", c.from)
		other.WriteTo([]byte(c.answer("200 OK", "SIP-ETag: x")), to)
	})
	if o := accepted(t, newPublisher(t, srv.addr(), "udp"), initial); o.Tag != "x" {
		t.Errorf("%+v", o)
	}
}

// TestBurst: a burst as large as the engine makes it loses nothing. Were an answer lost,
// its request would be sent again.
func TestBurst(t *testing.T) {
	const requests, inFlight = 2000, 256
	srv := newResponder(t, "udp", "127.0.0.1:0", func(c call) { c.accept(c.header("Call-ID")) })
	p := newPublisher(t, srv.addr(), "udp")
	var wg sync.WaitGroup
	work := make(chan struct{})
	for range inFlight {
		wg.Go(func() {
			for range work {
				if o := p.Publish(context.Background(), initial); o.Result != busylamp.Accepted {
					t.Errorf("%+v", o)
				}
			}
		})
	}
	for range requests {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
	// A busy machine may need longer than the first timer for a few of them.
	if n := len(srv.all()); n > requests+requests/10 {
		t.Errorf("%d packets for %d requests", n, requests)
	}
}

// TestMemory: what has ended is forgotten, be it answered or not.
func TestMemory(t *testing.T) {
	srv := newResponder(t, "udp", "127.0.0.1:0", func(c call) { c.accept("t1") })
	p := newPublisher(t, srv.addr(), "udp")
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	accepted(t, p, initial)
	before := heap()
	for range 3000 {
		accepted(t, p, initial)
	}
	srv.mu.Lock()
	srv.calls = nil
	srv.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	p.Publish(ctx, initial)
	if n := len(p.path.waiting); n != 0 {
		t.Errorf("%d requests wait after their end", n)
	}
	if after := heap(); after > before+512<<10 {
		t.Errorf("%d kB in use after 3000 answered requests, %d before", after>>10, before>>10)
	}
}

// TestSize: RFC 3261 section 18.1.1, no request above 1,300 bytes by UDP.
func TestSize(t *testing.T) {
	srv := newResponder(t, "udp+tcp", "127.0.0.1:0", func(c call) { c.accept("t1") })
	agent := func(n int) func(*Config) {
		return func(c *Config) { c.UserAgent = strings.Repeat("x", n) }
	}
	accepted(t, newPublisher(t, srv.addr(), "udp", agent(1)), initial)
	pad := 1300 - len(srv.all()[0].raw) + 1
	accepted(t, newPublisher(t, srv.addr(), "udp", agent(pad)), initial)
	p := newPublisher(t, srv.addr(), "udp", agent(pad+1))
	accepted(t, p, initial)
	accepted(t, p, initial)
	accepted(t, p, refresh)
	for i, want := range []string{"UDP", "UDP", "TCP", "TCP", "UDP"} {
		c := srv.all()[i]
		// A local port has five digits nearly always.
		if c.transport != want && len(c.raw) != 1300 && len(c.raw) != 1301 {
			t.Errorf("request of %d bytes by %s", len(c.raw), c.transport)
		}
		if via := "SIP/2.0/" + c.transport + " " + c.from + ";"; !strings.HasPrefix(c.header("Via"), via) || strings.Count(c.raw, "Via:") != 1 {
			t.Errorf("Via %s, want %s", c.header("Via"), via)
		}
	}
	if n := srv.connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestSizeWithoutTCP: the same section, where the server refuses TCP the request goes by UDP.
func TestSizeWithoutTCP(t *testing.T) {
	srv := newResponder(t, "udp", "127.0.0.1:0", func(c call) { c.accept("t1") })
	p := newPublisher(t, srv.addr(), "udp")
	long := initial
	long.Presentity = busylamp.Presentity("sip:" + strings.Repeat("u", 200) + "@example.com")
	accepted(t, p, long)
	if c := srv.all()[0]; len(c.raw) <= maxDatagram || !strings.HasPrefix(c.header("Via"), "SIP/2.0/UDP ") {
		t.Errorf("%d bytes, Via %s", len(c.raw), c.header("Via"))
	}
	accepted(t, p, initial)
}
