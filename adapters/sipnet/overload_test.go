package sipnet

import (
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// TestBusyServer: a 503 moves nobody but whom it answers, for the server talks, and what
// others wait for may be a 200. But that is no sign that the server is well again: further
// requests leave it alone, for as long as it asked or, if it did not, until it is probed.
func TestBusyServer(t *testing.T) {
	for name, headers := range map[string][]string{"Retry-After": {"Retry-After: 60"}, "bare": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hold := make(chan siptest.Request, 1)
			first := siptest.New(t, "tcp", "127.0.0.1:0", func(r siptest.Request) {
				select {
				case hold <- r:
				default:
					r.Reply(r.Answer("503 Busy", headers...))
				}
			})
			second := newServer(t, "tcp", "second")
			pace := quick()
			pace.silence, pace.probeEvery = patience, patience
			log := &logged{}
			c := newZone(t, join(srv("tcp", first.Addr(), 10, 0), srv("tcp", second.Addr(), 20, 0))...).client(t, "tcp", pace, log.to())
			held := make(chan string)
			go func() {
				res, err := send(c, patience)
				held <- tagOf(t, res, err)
			}()
			eventually(t, "a request waits", func() bool { return len(hold) == 1 })
			if tag := accepted(t, c); tag != "second" {
				t.Errorf("at %s", tag)
			}
			select {
			case tag := <-held:
				t.Errorf("moved to %s", tag)
				return
			case <-time.After(100 * time.Millisecond):
			}
			(<-hold).Accept("first")
			if tag := <-held; tag != "first" {
				t.Errorf("at %s", tag)
			}
			for range 3 {
				if tag := accepted(t, c); tag != "second" {
					t.Errorf("at %s", tag)
				}
			}
			if n := len(first.All()); n != 2 || log.count("a server is back") != 0 {
				t.Errorf("%d requests to the busy server, log:\n%s", n, log)
			}
		})
	}
}

// TestAllBusy: when all servers are busy, each is left alone for as long as it asked, and
// whoever asks is told how long it is until the first of them may be asked again.
func TestAllBusy(t *testing.T) {
	t.Parallel()
	first, second := newServer(t, "udp", "first"), newServer(t, "udp", "second")
	first.is("503 First\nRetry-After:60")
	second.is("503 Second\nRetry-After:600")
	z := newZone(t, join(srv("udp", first.Addr(), 10, 0), srv("udp", second.Addr(), 20, 0))...)
	pace := quick()
	pace.probeEvery = time.Hour
	c := z.client(t, "udp", pace)
	for _, reason := range []string{"Second", "not sent, as no address of the server wants to be asked yet: 503 First"} {
		res, err := send(c, patience)
		if err != nil || res.StatusCode != 503 || !strings.HasPrefix(res.Reason, reason) || RetryAfter(res) < time.Minute-patience || RetryAfter(res) > time.Minute {
			t.Errorf("%v, %v", res, err)
		}
		if a, b := first.publish.Load(), second.publish.Load(); a != 1 || b != 1 {
			t.Errorf("%d and %d requests", a, b)
		}
	}
	first.is("")
	second.is("")
	c.mu.Lock()
	c.hops[0].wish = time.Now() // the minute is over
	c.mu.Unlock()
	if tag := accepted(t, c); tag != "first" || second.publish.Load() != 1 {
		t.Errorf("at %s, %d requests to the second", tag, second.publish.Load())
	}
}

// TestRetryAfterOfOneHop: what one server asks for holds up nobody whom another one, which
// asked for nothing, may answer again at any time.
func TestRetryAfterOfOneHop(t *testing.T) {
	t.Parallel()
	first, second := refuser(t), newServer(t, "tcp", "second")
	second.is("503 Second\nRetry-After:600")
	z := newZone(t, join(srv("tcp", first, 10, 0), srv("tcp", second.Addr(), 20, 0))...)
	pace := quick()
	pace.probeEvery = time.Hour
	c := z.client(t, "tcp", pace)
	if res, err := send(c, patience); err != nil || res.StatusCode != 503 || RetryAfter(res) != 0 {
		t.Errorf("%v, %v", res, err)
	}
	if _, err := send(c, patience); err == nil || !strings.Contains(err.Error(), first) || second.publish.Load() != 1 {
		t.Errorf("%v, %d requests to the second", err, second.publish.Load())
	}
	siptest.New(t, "tcp", first, accept("first"))
	if tag := accepted(t, c); tag != "first" {
		t.Errorf("at %s", tag)
	}
}
