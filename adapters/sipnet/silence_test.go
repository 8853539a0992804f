package sipnet

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// TestSlowServer: one that takes longer than what counts as silence still has its answer
// taken, once, be it alone or the only one that is up.
func TestSlowServer(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		for _, alone := range []bool{true, false} {
			name := transport + "/alone"
			if !alone {
				name = transport + "/the other is down"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				pace := quick()
				pace.silence = 100 * time.Millisecond
				pace.streamSilence, pace.probeEvery = patience, time.Hour
				slow := siptest.New(t, transport, "127.0.0.1:0", func(r siptest.Request) {
					time.Sleep(450 * time.Millisecond) // before it is sent again
					r.Accept(r.Header("Via"))
				})
				records := srv(transport, slow.Addr(), 10, 0)
				if !alone {
					other := newServer(t, transport, "other")
					other.is("503 Down\nRetry-After:3600")
					records = append(records, srv(transport, other.Addr(), 5, 0)...)
				}
				c := newZone(t, records...).client(t, transport, pace)
				for range 2 {
					accepted(t, c)
				}
				vias := map[string]bool{}
				for _, r := range slow.All() {
					if r.StartLine()[:7] == "PUBLISH" {
						vias[r.Header("Via")] = true
					}
				}
				if len(vias) != 2 {
					t.Errorf("%d transactions for 2 requests", len(vias))
				}
				hops := c.Status().Hops
				if h := hops[len(hops)-1]; !h.Up || !h.InUse {
					t.Errorf("%+v", h)
				}
			})
		}
	}
}

// TestOneRetransmitter: of 100 requests that wait for a silent server one goes on
// retransmitting, and when the server is back, all do at once.
func TestOneRetransmitter(t *testing.T) {
	t.Parallel()
	const requests = 100
	var awake atomic.Bool
	srv := siptest.New(t, "udp", "127.0.0.1:0", func(r siptest.Request) {
		if awake.Load() {
			r.Accept("t1")
		}
	})
	pace := normal
	pace.silence = 300 * time.Millisecond
	c := clientOf(t, Config{Server: targetOf(t, "sip:"+srv.Addr())}, pace)
	wait := begin(t, c, srv, requests)
	time.Sleep(1200 * time.Millisecond) // at 0.5 s, each would have sent a second one
	if n := len(srv.All()) - requests; n < 1 || n > 3 {
		t.Errorf("%d packets into the silence", n)
	}
	if s := c.Status().Hops[0]; s.Up || s.Why == "" {
		t.Errorf("%+v", s)
	}
	awake.Store(true)
	finish(t, patience/4, wait) // the next one at 1.5 s, all others 300 ms later
	if n := len(srv.All()); n > 2*requests+10 {
		t.Errorf("%d packets", n)
	}
	if s := c.Status().Hops[0]; !s.Up {
		t.Errorf("%+v", s)
	}
}

// TestSlowServerIsNotAskedAgain: a server that is slow, and was taken for silent, is not sent
// again what it has: it may have forgotten by then that it has answered.
func TestSlowServerIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	const requests = 20
	srv := siptest.New(t, "udp", "127.0.0.1:0", func(r siptest.Request) {
		time.AfterFunc(1400*time.Millisecond, func() { r.Accept("t1") }) // to each, also what comes again
	})
	pace := normal
	pace.silence = 300 * time.Millisecond
	c := clientOf(t, Config{Server: targetOf(t, "sip:"+srv.Addr())}, pace)
	var waits []func()
	for range requests {
		waits = append(waits, begin(t, c, srv, 1))
		time.Sleep(15 * time.Millisecond) // all within 0.3 s, so that none is sent again before the silence
	}
	for _, wait := range waits {
		finish(t, patience, wait)
	}
	// One retransmits into the silence, at 0.5 s.
	if n := len(srv.All()) - requests; n > 3 {
		t.Errorf("%d packets too many", n)
	}
}

// TestSilentServerDisappears: whoever waits for a silent server goes on when DNS has another
// one instead.
func TestSilentServerDisappears(t *testing.T) {
	t.Parallel()
	first, second := newServer(t, "udp", "first"), newServer(t, "udp", "second")
	first.is("silent")
	z := newZone(t, srv("udp", first.Addr(), 10, 0)...)
	c := z.client(t, "udp", quick())
	wait := begin(t, c, first.Server, 1)
	eventually(t, "it is silent", func() bool { return inUse(c) == "" })
	z.set(t, srv("udp", second.Addr(), 10, 0)...)
	renew(t, c)
	finish(t, patience/2, wait)
	if second.publish.Load() == 0 {
		t.Error("not at the second")
	}
}

// TestSilenceAddsUp: requests that give up sooner than a server counts as silent make it so
// together; those that are answered never do, nor does the time without any.
func TestSilenceAddsUp(t *testing.T) {
	t.Parallel()
	first, second := newServer(t, "udp", "first"), newServer(t, "udp", "second")
	z := newZone(t, join(srv("udp", first.Addr(), 10, 0), srv("udp", second.Addr(), 20, 0))...)
	pace := quick()
	pace.probeEvery = time.Hour
	c := z.client(t, "udp", pace)
	for range 3 {
		accepted(t, c)
		time.Sleep(pace.silence / 2)
	}
	if got := inUse(c); got != first.Addr() {
		t.Fatalf("%s in use after a time without requests", got)
	}
	first.is("silent")
	for range 4 {
		send(c, pace.silence/3)
	}
	if tag := accepted(t, c); tag != "second" || first.publish.Load() > 3+4 {
		t.Errorf("at %s after %d requests to the first", tag, first.publish.Load())
	}
}

// TestBusyServerIsNotSilent: requests always wait for it, but each is answered in its turn.
func TestBusyServerIsNotSilent(t *testing.T) {
	t.Parallel()
	first := siptest.New(t, "udp", "127.0.0.1:0", func(r siptest.Request) {
		time.Sleep(40 * time.Millisecond)
		r.Accept("first")
	})
	second := newServer(t, "udp", "second")
	z := newZone(t, join(srv("udp", first.Addr(), 10, 0), srv("udp", second.Addr(), 20, 0))...)
	c := z.client(t, "udp", quick())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 10 {
				if res, err := send(c, patience); err != nil || res.GetHeader("SIP-ETag").Value() != "first" {
					t.Errorf("%v, %v", res, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestWatch: of what counts as silence, the last third is left to answer a question, also
// where the clock is late; a word begins all of it anew, and time without a wait is none.
func TestWatch(t *testing.T) {
	t.Parallel()
	var w watch
	w.init(3*time.Second, func() {})
	defer w.stop()
	begun := time.Now()
	after := func(seconds float64) time.Time { return begun.Add(time.Duration(seconds * float64(time.Second))) }
	const none, ask, silent = "none", "ask", "silent"
	expect := func(seconds float64, want string) {
		t.Helper()
		got := none
		if a, s := w.overdue(after(seconds)); a {
			got = ask
		} else if s {
			got = silent
		}
		if got != want {
			t.Errorf("at %v s: %s, want %s", seconds, got, want)
		}
	}
	w.enter(after(0))
	expect(1.9, none)
	expect(2, ask)
	expect(2.9, none)
	w.hear(after(2.9), 0)
	expect(4.8, none)
	expect(6, ask) // late
	expect(7, silent)
	expect(8, none)
	w.hear(after(10), 0)
	w.leave(after(11))
	expect(19, none)
	w.enter(after(20))
	expect(20.9, none)
	expect(21, ask)
	expect(22, silent)
}
