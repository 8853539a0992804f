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

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// TestConnectionIsReused, by requests one after another and many at once.
func TestConnectionIsReused(t *testing.T) {
	srv := siptest.New(t, "tcp", "127.0.0.1:0", accept("t1"))
	c := clientTo(t, srv.Addr(), "tcp")
	for range 20 {
		accepted(t, c)
	}
	begin(t, c, srv, 100)()
	if n := srv.Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestConnectionStorm: many first requests at once make one connection.
func TestConnectionStorm(t *testing.T) {
	srv := siptest.New(t, "tcp", "127.0.0.1:0", accept("t1"))
	begin(t, clientTo(t, srv.Addr(), "tcp"), srv, 256)()
	if n := srv.Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestServerHangsUp: requests under way fail at once, and the next one connects again.
func TestServerHangsUp(t *testing.T) {
	var calm atomic.Bool
	srv := siptest.New(t, "tcp", "127.0.0.1:0", func(r siptest.Request) {
		if calm.Load() {
			r.Accept("t1")
		} else {
			r.HangUp()
		}
	})
	c := clientTo(t, srv.Addr(), "tcp")
	for range 50 {
		calm.Store(false)
		var wg sync.WaitGroup
		finish(t, patience, func() {
			for range 5 {
				wg.Go(func() {
					if _, err := send(c, time.Minute); err == nil || !strings.Contains(err.Error(), srv.Addr()) {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		})
		calm.Store(true)
		accepted(t, c)
	}
}

// TestServerAnswersAndHangsUp: an answer counts, however soon the end comes after it.
func TestServerAnswersAndHangsUp(t *testing.T) {
	srv := siptest.New(t, "tcp", "127.0.0.1:0", func(r siptest.Request) {
		r.Reply(r.Answer("100 Trying") + r.Answer("200 OK", "SIP-ETag: x"))
		r.HangUp()
	})
	for range 300 {
		// One client each: the next request over the same connection may fail.
		c := clientTo(t, srv.Addr(), "tcp")
		accepted(t, c)
		c.Close()
	}
}

// TestServerHangsUpWhenIdle: as a proxy does with connections on which nothing comes.
func TestServerHangsUpWhenIdle(t *testing.T) {
	var hangUp atomic.Pointer[func()]
	srv := siptest.New(t, "tcp", "127.0.0.1:0", func(r siptest.Request) {
		hangUp.Store(&r.HangUp)
		r.Accept("t1")
	})
	c := clientTo(t, srv.Addr(), "tcp")
	for range 5 {
		accepted(t, c)
		(*hangUp.Load())()
		select {
		case <-pathTo(c).dial.stream.ended:
		case <-time.After(patience):
			t.Fatal("the end of the connection is not noticed")
		}
	}
	if n := srv.Connections(); n != 5 {
		t.Errorf("%d connections", n)
	}
	if s := c.Status(); !s.Hops[0].Up {
		t.Errorf("%+v", s)
	}
}

// TestServerIsSilent: a connection on which nothing is heard is not kept for the next
// request, for behind it there may be nobody any more.
func TestServerIsSilent(t *testing.T) {
	t.Parallel()
	srv := siptest.New(t, "tcp", "127.0.0.1:0", nil)
	c := clientTo(t, srv.Addr(), "tcp")
	for i := range 2 {
		if res, err := send(c, 500*time.Millisecond); !errors.Is(err, errNoAnswer) {
			t.Errorf("%v, %v", res, err)
		}
		if n := srv.Connections(); n != i+1 {
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
		"the connection's timeout": {time.Minute, patience, "lost: i/o timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.6:0")
			if err != nil {
				t.Fatal(err)
			}
			pace := normal
			pace.connTimeout = time.Second
			if tc.reason == "" {
				pace.connTimeout = time.Minute
			}
			c := clientOf(t, Config{Server: targetOf(t, "sip:"+l.Addr().String()+";transport=tcp")}, pace)
			var wg sync.WaitGroup
			var reqs []*sip.Request
			for range 16 { // 2 MB each are more than any buffer takes
				reqs = append(reqs, message(2<<20))
			}
			finish(t, tc.within, func() {
				for _, req := range reqs {
					wg.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), tc.timeout)
						defer cancel()
						if _, err := c.Do(ctx, req); err == nil || !strings.Contains(err.Error(), tc.reason) {
							t.Error(err)
						}
					})
				}
				wg.Wait()
			})
			addr := l.Addr().String()
			l.Close() // and with it the connections that wait to be accepted
			siptest.New(t, "tcp", addr, accept("t1"))
			accepted(t, c)
		})
	}
}

// TestRequestsOfTheServer do not disturb the answers to ours.
func TestRequestsOfTheServer(t *testing.T) {
	srv := siptest.New(t, "tcp", "127.0.0.1:0", func(r siptest.Request) {
		if !strings.HasPrefix(r.Raw, "PUBLISH ") {
			return
		}
		for range 10 {
			r.Reply("OPTIONS sip:x@" + r.From + " SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK" + r.Header("Call-ID") + "\r\n" +
				"From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n")
		}
		r.Reply("\r\n\r\n")
		r.Accept("t1")
	})
	c := clientTo(t, srv.Addr(), "tcp")
	for range 20 {
		accepted(t, c)
	}
}

// TestNonsenseOverTCP: what is not SIP has no end that could be found, so the connection is
// given up, and the next request has its own.
func TestNonsenseOverTCP(t *testing.T) {
	for _, nonsense := range []string{"nonsense\r\n\r\n", strings.Repeat("x", 200_000), "SIP/2.0 200 OK\r\nContent-Length: 999999999\r\n\r\n" + strings.Repeat("x", 100_000)} {
		var calm atomic.Bool
		srv := siptest.New(t, "tcp", "127.0.0.1:0", func(r siptest.Request) {
			if !calm.Swap(true) {
				r.Reply(nonsense)
				return
			}
			r.Accept("t1")
		})
		c := clientTo(t, srv.Addr(), "tcp")
		finish(t, patience, func() {
			if res, err := send(c, time.Minute); err == nil {
				t.Errorf("%v", res)
			}
		})
		accepted(t, c)
	}
}

// TestCanceledConnecting: one canceled request does not take others with it that wait for
// the same connection.
func TestCanceledConnecting(t *testing.T) {
	t.Parallel()
	l := blackhole(t)
	c := clientTo(t, l, "tcp")
	way, leave := under(t, c)
	defer leave()
	ctx, cancel := context.WithCancel(context.Background())
	canceled, other := make(chan error, 1), make(chan error, 1)
	for ctx, ended := range map[context.Context]chan error{ctx: canceled, context.Background(): other} {
		go func() {
			_, err := c.Do(ctx, message(0))
			ended <- err
		}()
	}
	eventually(t, "two requests wait", func() bool {
		way.mu.Lock()
		defer way.mu.Unlock()
		return len(way.waiting) == 2 && way.dial != nil
	})
	dial := way.dial
	cancel()
	if err := <-canceled; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	select {
	case <-dial.done:
		t.Error("the attempt to connect has ended")
	case err := <-other:
		t.Error(err)
	case <-time.After(100 * time.Millisecond):
	}
	finish(t, normal.connTimeout/2, func() {
		c.end() // as Close does
		<-other
	})
}

// blackhole is the address of a TCP server that lets nobody connect: a listener whose queue
// is full takes no further SYN.
func blackhole(t *testing.T) string {
	t.Helper()
	fd, err := syscallListen()
	if err != nil {
		t.Fatal(err)
	}
	addr := fd.addr
	t.Cleanup(fd.close)
	for range 3 {
		conn, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { conn.Close() })
	}
	return addr
}

// TestSilentConnection: a connection over which nothing comes while a request waits is
// given up long before the request's own time, and the next request has a new one.
func TestSilentConnection(t *testing.T) {
	t.Parallel()
	var awake atomic.Bool
	srv := siptest.New(t, "tcp", "127.0.0.1:0", func(r siptest.Request) {
		if awake.Load() {
			r.Accept("t1")
		}
	})
	pace := normal
	pace.streamSilence = 200 * time.Millisecond
	c := clientOf(t, Config{Server: targetOf(t, "sip:"+srv.Addr()+";transport=tcp")}, pace)
	began := time.Now()
	if res, err := send(c, patience); err == nil || !strings.Contains(err.Error(), "nothing heard") || time.Since(began) > patience/2 {
		t.Errorf("%v, %v after %v", res, err, time.Since(began))
	}
	awake.Store(true)
	accepted(t, c)
	if n := srv.Connections(); n != 2 {
		t.Errorf("%d connections", n)
	}
}
