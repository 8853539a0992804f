package sipnet

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

func TestNoAnswer(t *testing.T) {
	t.Parallel()
	srv := siptest.New(t, "udp", "127.0.0.1:0", nil)
	c := clientTo(t, srv.Addr(), "udp")
	finish(t, patience, func() {
		if res, err := send(c, 2500*time.Millisecond); !errors.Is(err, errNoAnswer) || err.Error() != "no answer" {
			t.Errorf("%v, %v", res, err)
		}
	})
	// RFC 3261 section 17.1.2.2: at 0, 0.5 and 1.5 s, or later on a busy machine.
	calls := srv.All()
	if len(calls) < 2 || len(calls) > 3 {
		t.Fatalf("sent %d times, want 3", len(calls))
	}
	for _, r := range calls[1:] {
		if r.Raw != calls[0].Raw {
			t.Errorf("sent again as\n%s\nafter\n%s", r.Raw, calls[0].Raw)
		}
	}
	time.Sleep(1500 * time.Millisecond) // past 3.5 s
	if n := len(srv.All()); n > len(calls) {
		t.Errorf("sent %d times more after its end", n-len(calls))
	}
}

func TestLostPackets(t *testing.T) {
	t.Parallel()
	seen := 0
	srv := siptest.New(t, "udp", "127.0.0.1:0", func(r siptest.Request) {
		if seen++; seen > 2 {
			r.Accept("t1")
		}
	})
	accepted(t, clientTo(t, srv.Addr(), "udp"))
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
	c := clientTo(t, addr, "udp")
	done := make(chan error)
	go func() {
		_, err := send(c, patience)
		done <- err
	}()
	time.Sleep(700 * time.Millisecond) // the port refuses twice
	siptest.New(t, "udp", addr, accept("t1"))
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestLastMoment: a request is not repeated when nobody will wait for its answer.
func TestLastMoment(t *testing.T) {
	t.Parallel()
	var heard atomic.Int32
	srv := siptest.New(t, "udp", "127.0.0.1:0", func(siptest.Request) { heard.Add(1) })
	// It is sent at 0 and 0.5 s, and would be at 1.5 s.
	if _, err := send(clientTo(t, srv.Addr(), "udp"), 1520*time.Millisecond); !errors.Is(err, errNoAnswer) {
		t.Error(err)
	}
	if n := heard.Load(); n != 2 {
		t.Errorf("heard %d times, not twice", n)
	}
}

func TestRefusedPort(t *testing.T) {
	t.Parallel()
	addr := refuser(t)
	if res, err := send(clientTo(t, addr, "udp"), time.Second); !errors.Is(err, errNoAnswer) {
		t.Errorf("UDP: %v, %v", res, err)
	}
	if _, err := send(clientTo(t, addr, "tcp"), patience); err == nil || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("TCP: %v", err)
	}
}

func TestCancel(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(context.Background())
			var answer atomic.Bool
			srv := siptest.New(t, transport, "127.0.0.1:0", func(r siptest.Request) {
				if answer.Load() {
					r.Accept("t1")
				}
				cancel()
			})
			c := clientTo(t, srv.Addr(), transport)
			finish(t, patience, func() {
				if _, err := c.Do(ctx, message(0)); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				for range 20 {
					if _, err := c.Do(ctx, message(0)); !errors.Is(err, context.Canceled) {
						t.Errorf("canceled before: %v", err)
					}
				}
			})
			answer.Store(true)
			accepted(t, c)
			if n := srv.Connections(); n > 1 {
				t.Errorf("%d connections: one canceled request ended that of all", n)
			}
		})
	}
}

func TestClose(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			srv := siptest.New(t, transport, "127.0.0.1:0", nil)
			c := clientTo(t, srv.Addr(), transport)
			var requests sync.WaitGroup
			for range 50 {
				requests.Go(func() {
					if _, err := send(c, time.Minute); err == nil {
						t.Error("an answer of nobody")
					}
				})
			}
			eventually(t, "50 requests under way", func() bool { return len(srv.All()) >= 50 })
			finish(t, patience, func() {
				c.Close()
				requests.Wait()
			})
			if _, err := send(c, time.Minute); !errors.Is(err, errClosed) {
				t.Errorf("after Close: %v", err)
			}
			if err := c.Close(); err != nil {
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
	srv := siptest.New(t, "udp", "127.0.0.1:0", func(r siptest.Request) {
		to, _ := net.ResolveUDPAddr("udp", r.From)
		other.WriteTo([]byte(r.Answer("200 OK", "SIP-ETag: x")), to)
	})
	if tag := accepted(t, clientTo(t, srv.Addr(), "udp")); tag != "x" {
		t.Errorf("tag %s", tag)
	}
}

// TestBurst: a burst as large as the engine makes it loses nothing. Were an answer lost,
// its request would be sent again.
func TestBurst(t *testing.T) {
	const requests, inFlight = 2000, 256
	srv := siptest.New(t, "udp", "127.0.0.1:0", func(r siptest.Request) { r.Accept(r.Header("Call-ID")) })
	c := clientTo(t, srv.Addr(), "udp")
	var wg sync.WaitGroup
	work := make(chan struct{})
	for range inFlight {
		wg.Go(func() {
			for range work {
				if _, err := send(c, patience); err != nil {
					t.Error(err)
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
	if n := len(srv.All()); n > requests+requests/10 {
		t.Errorf("%d packets for %d requests", n, requests)
	}
}

// TestSize: RFC 3261 section 18.1.1, no request above 1,300 bytes by UDP.
func TestSize(t *testing.T) {
	srv := siptest.New(t, "udp+tcp", "127.0.0.1:0", accept("t1"))
	c := clientTo(t, srv.Addr(), "udp")
	do := func(pad int) siptest.Request {
		t.Helper()
		res, err := c.Do(t.Context(), message(pad))
		tagOf(t, res, err)
		all := srv.All()
		return all[len(all)-1]
	}
	pad := maxDatagram - len(do(1).Raw) + 1
	for i, want := range []struct {
		pad       int
		transport string
	}{{pad, "UDP"}, {pad + 1, "TCP"}, {pad + 1, "TCP"}, {1, "UDP"}} {
		r := do(want.pad)
		if r.Transport != want.transport {
			t.Errorf("%d: request of %d bytes by %s", i, len(r.Raw), r.Transport)
		}
		if via := "SIP/2.0/" + r.Transport + " " + r.From + ";"; !strings.HasPrefix(r.Header("Via"), via) || strings.Count(r.Raw, "Via:") != 1 {
			t.Errorf("Via %s, want %s", r.Header("Via"), via)
		}
		if contact := "<sip:alice@" + r.From + ";transport=" + strings.ToLower(r.Transport) + ">"; r.Header("Contact") != contact {
			t.Errorf("Contact %s, want %s", r.Header("Contact"), contact)
		}
	}
	if n := srv.Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestSizeWithoutTCP: the same section, where the server refuses TCP the request goes by
// UDP. That is remembered, and is no reason to take the server for down.
func TestSizeWithoutTCP(t *testing.T) {
	srv := siptest.New(t, "udp", "127.0.0.1:0", accept("t1"))
	c := clientTo(t, srv.Addr(), "udp")
	long := func() {
		t.Helper()
		res, err := c.Do(t.Context(), message(2000))
		tagOf(t, res, err)
	}
	long()
	if r := srv.All()[0]; len(r.Raw) <= maxDatagram || !strings.HasPrefix(r.Header("Via"), "SIP/2.0/UDP ") {
		t.Errorf("%d bytes, Via %s", len(r.Raw), r.Header("Via"))
	}
	first := pathTo(c).dial
	long()
	accepted(t, c)
	if pathTo(c).dial != first {
		t.Error("TCP is tried for every request")
	}
	if s := c.Status(); !s.Hops[0].Up {
		t.Errorf("%+v", s)
	}
	p := pathTo(c)
	p.mu.Lock()
	p.noTCP = time.Now()
	p.mu.Unlock()
	long()
	if p.dial == first {
		t.Error("TCP is never tried again")
	}
}
