package kamailio

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
	"go.uber.org/goleak"
)

// noLeaks fails a test that leaves goroutines behind, when its cleanups have run.
func noLeaks(t *testing.T) {
	t.Helper()
	current := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, current) })
}

// peer stands in for Kamailio's evapi.
type peer struct {
	net.Listener
	conns chan net.Conn
}

func newPeer(t testing.TB) *peer {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{l, make(chan net.Conn, 1000)}
	var mu sync.Mutex
	var all []net.Conn
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, c)
			mu.Unlock()
			p.conns <- c
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-accepting
		mu.Lock()
		defer mu.Unlock()
		for _, c := range all {
			c.Close()
		}
	})
	return p
}

func (p *peer) addr() string { return p.Listener.Addr().String() }

// accept returns the next connection.
func (p *peer) accept(t testing.TB) net.Conn {
	t.Helper()
	select {
	case c := <-p.conns:
		return c
	case <-time.After(20 * time.Second):
		t.Fatal("nobody connects")
		return nil
	}
}

// registered returns the next connection once it has registered.
func (p *peer) registered(t testing.TB) net.Conn {
	t.Helper()
	c := p.accept(t)
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	first, _, err := readNetstring(bufio.NewReader(c), nil)
	if err != nil || string(first) != "busylamp/1 register" {
		t.Fatalf("the first frame is %q, %v", first, err)
	}
	return c
}

// say writes a frame: the epoch and lines.
func say(t testing.TB, c net.Conn, epoch string, lines ...string) {
	t.Helper()
	if _, err := c.Write(netstring("busylamp/1 " + epoch + "\n" + strings.Join(lines, "\n"))); err != nil {
		t.Fatal(err)
	}
}

func netstring(s string) []byte { return fmt.Appendf(nil, "%d:%s,", len(s), s) }

// recorder is a Sink that remembers.
type recorder struct {
	mu     sync.Mutex
	what   []string // "connected EPOCH", "disconnected", "doubt WHY", "call SEQ"
	calls  []busylamp.CallEvent
	stuck  chan struct{} // nil, or what calls wait for
	forget bool          // calls are not kept
}

func (r *recorder) add(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.what = append(r.what, fmt.Sprintf(format, args...))
}

func (r *recorder) Connected(_ int, epoch string) { r.add("connected %s", epoch) }
func (r *recorder) Disconnected(int)              { r.add("disconnected") }
func (r *recorder) Doubt(_ int, why string)       { r.add("doubt %s", why) }
func (r *recorder) Calls(_ int, events []busylamp.CallEvent) {
	if r.stuck != nil {
		<-r.stuck
	}
	if r.forget {
		return
	}
	for _, ev := range events {
		r.add("call %d", ev.Seq)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, events...)
}

// count says how many entries begin so.
func (r *recorder) count(prefix string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.what {
		if strings.HasPrefix(w, prefix) {
			n++
		}
	}
	return n
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.what, ", ")
}

// quick are waits for tests: patient with a slow machine, and quick to connect again.
var quick = timing{dial: 3 * time.Second, write: 3 * time.Second, silence: 30 * time.Second,
	firstWait: 5 * time.Millisecond, mostWait: 50 * time.Millisecond}

// run receives from addr until the test, or stop, ends it.
func run(t testing.TB, addr string, sink Sink, waits timing) (k *Events, stop func()) {
	t.Helper()
	k = NewEvents(Config{Name: "proxy1", Evapi: addr, Log: slog.New(slog.DiscardHandler)}, sink)
	k.timing = waits
	return k, runs(t, k)
}

func runs(t testing.TB, k *Events) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); k.Run(ctx) }()
	stop = func() {
		t.Helper()
		cancel()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("Run does not end with its context")
		}
	}
	t.Cleanup(stop)
	return stop
}
