package sippublish

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

func TestConnectionIsReused(t *testing.T) {
	srv := newResponder(t, "tcp", "127.0.0.1:0", func(c call) { c.accept("t1") })
	p := newPublisher(t, srv.addr(), "tcp")
	for range 20 {
		accepted(t, p, initial)
	}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if o := p.Publish(context.Background(), initial); o.Result != busylamp.Accepted {
				t.Errorf("%+v", o)
			}
		})
	}
	wg.Wait()
	if n := srv.connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestConnectionStorm: many first requests at once make one connection.
func TestConnectionStorm(t *testing.T) {
	srv := newResponder(t, "tcp", "127.0.0.1:0", func(c call) { c.accept("t1") })
	p := newPublisher(t, srv.addr(), "tcp")
	var wg sync.WaitGroup
	for range 256 {
		wg.Go(func() {
			if o := p.Publish(context.Background(), initial); o.Result != busylamp.Accepted {
				t.Errorf("%+v", o)
			}
		})
	}
	wg.Wait()
	if n := srv.connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestServerHangsUp: requests under way fail at once, and the next one connects again.
func TestServerHangsUp(t *testing.T) {
	var calm atomic.Bool
	srv := newResponder(t, "tcp", "127.0.0.1:0", func(c call) {
		if calm.Load() {
			c.accept("t1")
		} else {
			c.hangUp()
		}
	})
	p := newPublisher(t, srv.addr(), "tcp", timeout(time.Minute))
	for range 50 {
		calm.Store(false)
		var wg sync.WaitGroup
		finish(t, patience, func() {
			for range 5 {
				wg.Go(func() {
					if o := p.Publish(context.Background(), initial); o.Result != busylamp.Failed || !strings.Contains(o.Reason, srv.addr()) {
						t.Errorf("%+v", o)
					}
				})
			}
			wg.Wait()
		})
		calm.Store(true)
		accepted(t, p, initial)
	}
}

// TestServerAnswersAndHangsUp: an answer counts, however soon the end comes after it.
func TestServerAnswersAndHangsUp(t *testing.T) {
	srv := newResponder(t, "tcp", "127.0.0.1:0", func(c call) {
		c.reply(c.answer("100 Trying") + c.answer("200 OK", "SIP-ETag: x"))
		c.hangUp()
	})
	for range 300 {
		// One publisher each: the next request over the same connection may fail.
		p := newPublisher(t, srv.addr(), "tcp")
		accepted(t, p, initial)
		p.Close()
	}
}

// TestServerHangsUpWhenIdle: as a proxy does with connections on which nothing comes.
func TestServerHangsUpWhenIdle(t *testing.T) {
	srv := newResponder(t, "tcp", "127.0.0.1:0", func(c call) { c.accept("t1") })
	p := newPublisher(t, srv.addr(), "tcp")
	for range 5 {
		accepted(t, p, initial)
		srv.mu.Lock()
		last := srv.conns[len(srv.conns)-1]
		srv.mu.Unlock()
		last.Close()
		select {
		case <-p.path.tcp.ended:
		case <-time.After(patience):
			t.Fatal("the end of the connection is not noticed")
		}
	}
	if n := srv.connections(); n != 5 {
		t.Errorf("%d connections", n)
	}
}

// TestServerIsSilent: a connection on which nothing is heard is not kept for the next
// request, for behind it there may be nobody any more.
func TestServerIsSilent(t *testing.T) {
	t.Parallel()
	srv := newResponder(t, "tcp", "127.0.0.1:0", nil)
	p := newPublisher(t, srv.addr(), "tcp", timeout(500*time.Millisecond))
	for i := range 2 {
		if o := p.Publish(context.Background(), initial); o.Result != busylamp.Failed || o.Reason != "no answer" {
			t.Errorf("%+v", o)
		}
		if n := srv.connections(); n != i+1 {
			t.Errorf("%d connections after %d requests", n, i+1)
		}
	}
}

// TestServerDoesNotRead: what cannot be written fails within the request's time, and the
// next request is not behind it.
func TestServerDoesNotRead(t *testing.T) {
	for name, tc := range map[string]struct {
		timeout, within time.Duration
		reason          string
	}{
		"the request's timeout":    {2 * time.Second, patience, ""},
		"the connection's timeout": {time.Minute, connTimeout + patience, "lost: i/o timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			p := newPublisher(t, l.Addr().String(), "tcp", timeout(tc.timeout), func(c *Config) {
				c.UserAgent = strings.Repeat("x", 2<<20) // 16 of them are more than any buffer takes
			})
			var wg sync.WaitGroup
			finish(t, tc.within, func() {
				for range 16 {
					wg.Go(func() {
						if o := p.Publish(context.Background(), initial); o.Result != busylamp.Failed || !strings.Contains(o.Reason, tc.reason) {
							t.Errorf("%+v", o)
						}
					})
				}
				wg.Wait()
			})
			addr := l.Addr().String()
			l.Close() // and with it the connections that wait to be accepted
			newResponder(t, "tcp", addr, func(c call) { c.accept("t1") })
			accepted(t, p, initial)
		})
	}
}

// TestRequestsOfTheServer: a server asks us nothing; if it does, nothing stays of it.
func TestRequestsOfTheServer(t *testing.T) {
	srv := newResponder(t, "tcp", "127.0.0.1:0", func(c call) {
		for range 10 {
			c.reply("OPTIONS sip:x@" + c.from + " SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK" + c.header("Call-ID") + "\r\n" +
				"From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n")
		}
		c.reply("\r\n\r\n")
		c.accept("t1")
	})
	p := newPublisher(t, srv.addr(), "tcp")
	for range 20 {
		accepted(t, p, initial)
	}
}

// TestNonsenseOverTCP: what is not SIP has no end that could be found, so the connection is
// given up, and the next request has its own.
func TestNonsenseOverTCP(t *testing.T) {
	var calm atomic.Bool
	for _, nonsense := range []string{"nonsense\r\n\r\n", strings.Repeat("x", 200_000), "SIP/2.0 200 OK\r\nContent-Length: 999999999\r\n\r\n" + strings.Repeat("x", 100_000)} {
		calm.Store(false)
		srv := newResponder(t, "tcp", "127.0.0.1:0", func(c call) {
			if !calm.Swap(true) {
				c.reply(nonsense)
				return
			}
			c.accept("t1")
		})
		p := newPublisher(t, srv.addr(), "tcp", timeout(time.Minute))
		finish(t, patience, func() {
			if o := p.Publish(context.Background(), initial); o.Result != busylamp.Failed {
				t.Errorf("%+v", o)
			}
		})
		accepted(t, p, initial)
	}
}

// TestCanceledConnecting: one canceled request does not take others with it that wait for
// the same connection.
func TestCanceledConnecting(t *testing.T) {
	srv := newResponder(t, "tcp", "127.0.0.1:0", func(c call) { c.accept("t1") })
	p := newPublisher(t, srv.addr(), "tcp")
	way, err := p.enter(mustResolve(t, p))
	if err != nil {
		t.Fatal(err)
	}
	defer p.leave(way)
	way.turn <- struct{}{} // somebody connects
	ctx, cancel := context.WithCancel(context.Background())
	canceled, other := make(chan busylamp.Outcome, 1), make(chan busylamp.Outcome, 1)
	go func() { canceled <- p.Publish(ctx, initial) }()
	go func() { other <- p.Publish(context.Background(), initial) }()
	cancel()
	if o := <-canceled; o.Result != busylamp.Failed || !strings.Contains(o.Reason, "canceled") {
		t.Errorf("%+v", o)
	}
	<-way.turn
	if o := <-other; o.Result != busylamp.Accepted {
		t.Errorf("%+v", o)
	}
}

// TestSilentConnection: a connection over which nothing comes while a request waits is
// given up long before the request's own time, and the next request has a new one.
func TestSilentConnection(t *testing.T) {
	old := silence
	silence = 200 * time.Millisecond
	t.Cleanup(func() { silence = old })
	var awake atomic.Bool
	srv := newResponder(t, "tcp", "127.0.0.1:0", func(c call) {
		if awake.Load() {
			c.accept("t1")
		}
	})
	p := newPublisher(t, srv.addr(), "tcp")
	began := time.Now()
	o := p.Publish(context.Background(), initial)
	if o.Result != busylamp.Failed || !strings.Contains(o.Reason, "nothing heard") || time.Since(began) > patience/2 {
		t.Errorf("%+v after %v", o, time.Since(began))
	}
	awake.Store(true)
	accepted(t, p, initial)
	if n := srv.connections(); n != 2 {
		t.Errorf("%d connections", n)
	}
}
