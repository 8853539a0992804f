package sippublish

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/sipnet"
	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// TestTrace: those who look at a presentity see its messages, each of them all, and nobody
// else's; who has stopped sees none.
func TestTrace(t *testing.T) {
	t.Parallel()
	srv := siptest.New(t, "udp", "127.0.0.1:0", func(c siptest.Request) { c.Accept("t1") })
	p := newPublisher(t, srv.Addr(), "udp")
	var first, second, other []string
	look := func(who busylamp.Presentity, to *[]string) (stop func()) {
		stop, err := p.Trace(who, func(m sipnet.Traced) {
			line, _, _ := strings.Cut(m.Message, "\r\n")
			*to = append(*to, line)
		})
		if err != nil {
			t.Fatal(err)
		}
		return stop
	}
	stops := []func(){look(alice, &first), look(alice, &second), look("sip:bob@example.com", &other)}
	accepted(t, p, initial)
	stops[1]()
	accepted(t, p, refresh)
	for _, stop := range stops {
		stop() // twice does no harm
	}
	accepted(t, p, refresh)
	const sent, got = "PUBLISH sip:alice@example.com SIP/2.0", "SIP/2.0 200 OK"
	for name, tc := range map[string]struct{ got, want []string }{
		"the first": {first, []string{sent, got, sent, got}}, "the second": {second, []string{sent, got}}, "bob's": {other, nil},
	} {
		if strings.Join(tc.got, "|") != strings.Join(tc.want, "|") {
			t.Errorf("%s sees %q, want %q", name, tc.got, tc.want)
		}
	}
}

// TestTraceStopped: an answer to a request that was told is not told after the end.
func TestTraceStopped(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}), make(chan struct{})
	srv := siptest.New(t, "tcp", "127.0.0.1:0", func(c siptest.Request) {
		close(asked)
		<-answer
		c.Accept("t1")
	})
	p := newPublisher(t, srv.Addr(), "tcp")
	var told []bool
	stop, err := p.Trace(alice, func(m sipnet.Traced) { told = append(told, m.Sent) })
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		accepted(t, p, initial)
	}()
	<-asked
	stop()
	close(answer)
	<-done
	if len(told) != 1 || !told[0] {
		t.Errorf("told %v, want the request alone", told)
	}
}

// TestTraceBound: more than 16 at a time is an error that says so, until one ends.
func TestTraceBound(t *testing.T) {
	p := newPublisher(t, "127.0.0.1:9", "udp")
	var stops []func()
	for range maxTraces {
		stop, err := p.Trace(alice, func(sipnet.Traced) {})
		if err != nil {
			t.Fatal(err)
		}
		stops = append(stops, stop)
	}
	if _, err := p.Trace(alice, func(sipnet.Traced) {}); err == nil || !strings.Contains(err.Error(), "publisher test: 16 traces are running") {
		t.Errorf("%v", err)
	}
	stops[3]()
	stop, err := p.Trace(alice, func(sipnet.Traced) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, stop := range append(stops, stop) {
		stop()
	}
	ctx := context.Background()
	if p.tapped.Load() || len(p.taps.all) != 0 || p.traced(ctx, alice) != ctx {
		t.Error("somebody still looks")
	}
	if n := testing.AllocsPerRun(100, func() { p.traced(ctx, alice) }); n != 0 {
		t.Errorf("%v allocations with nobody looking", n)
	}
}

// TestTraceWhilePublishing: looking comes and goes beside many requests, and after stop
// nothing is told any more.
func TestTraceWhilePublishing(t *testing.T) {
	t.Parallel()
	srv := siptest.New(t, "udp", "127.0.0.1:0", func(c siptest.Request) { c.Accept("t1") })
	p := newPublisher(t, srv.Addr(), "udp")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				accepted(t, p, initial)
			}
		})
		wg.Go(func() {
			for range 50 {
				var stopped atomic.Bool
				stop, err := p.Trace(alice, func(sipnet.Traced) {
					if stopped.Load() {
						t.Error("told after the end")
					}
				})
				if err != nil {
					t.Error(err)
					return
				}
				stop()
				stopped.Store(true)
			}
		})
	}
	wg.Wait()
}
