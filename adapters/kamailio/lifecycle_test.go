package kamailio

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

// TestCycles: 200 lives of a connection leave nothing behind, and keep their order:
// Connected first, Disconnected last, and nothing of a life outside of it.
func TestCycles(t *testing.T) {
	noLeaks(t)
	p, sink := newPeer(t), &recorder{}
	waits := quick
	waits.firstWait, waits.mostWait = time.Millisecond, 2*time.Millisecond
	k, stop := run(t, p.addr(), sink, waits)
	const cycles = 200
	for i := 1; i <= cycles; i++ {
		c := p.registered(t)
		var b bytes.Buffer
		for n := range 20 {
			b.Write(netstring(fmt.Sprintf("busylamp/1 %d\nx %d 1:1\nh %d -", i, i*1000+n, i*1000+n)))
		}
		c.Write(b.Bytes())
		if i%3 == 0 {
			c.Write([]byte("17:busyl"))
		}
		if i%2 == 0 {
			eventually(t, 10*time.Second, "connected", func() bool { return sink.count(fmt.Sprint("connected ", i)) > 0 })
			c.(*net.TCPConn).SetLinger(0)
		}
		c.Close()
	}
	p.registered(t)
	stop()
	if n := k.Count.Connects.Load(); n < cycles {
		t.Errorf("%d connects", n)
	}
	life := ""
	for i, w := range sink.what {
		word, rest, _ := strings.Cut(w, " ")
		switch {
		case word == "connected" && life == "":
			life = rest
		case word == "disconnected" && life != "":
			life = ""
		case word == "call" && life != "" && strings.HasPrefix(rest, life) && len(rest) == len(life)+3:
		case word == "doubt" && life != "":
		default:
			t.Fatalf("%q at %d, in the life %q", w, i, life)
		}
	}
	if life != "" {
		t.Error("no Disconnected at the end")
	}
}

// TestStops: Run ends with its context, wherever it is.
func TestStops(t *testing.T) {
	noLeaks(t)
	silent, talker, refuser := newPeer(t), newPeer(t), newPeer(t)
	refuser.Close()
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case c := <-talker.conns:
				go func() {
					for {
						if _, err := c.Write(netstring("busylamp/1 1\nh 0 -\nx 1 1:1")); err != nil {
							return
						}
					}
				}()
			case <-done:
				return
			}
		}
	}()
	var all sync.WaitGroup
	for i := range 60 {
		addr := []string{silent.addr(), talker.addr(), refuser.addr()}[i%3]
		all.Go(func() {
			k := NewEvents(Config{Evapi: addr, Log: slog.New(slog.DiscardHandler)}, &recorder{forget: true})
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*500*time.Microsecond)
			defer cancel()
			k.Run(ctx)
			if late := time.Since(deadline(ctx)); late > 5*time.Second {
				t.Errorf("ended %v late", late)
			}
		})
	}
	all.Wait()
}

func deadline(ctx context.Context) time.Time { d, _ := ctx.Deadline(); return d }

// TestBackOff: neither a proxy that hangs up at once, nor one that does so after a word,
// is called more often than the back-off allows; and the log stays short.
func TestBackOff(t *testing.T) {
	for _, word := range []string{"", "busylamp/1 1\nh 0 -"} {
		p, sink := newPeer(t), &recorder{}
		var log lines
		k := NewEvents(Config{Evapi: p.addr(), Log: slog.New(slog.NewTextHandler(&log, nil))}, sink)
		k.timing = quick
		k.timing.firstWait, k.timing.mostWait = 10*time.Millisecond, 100*time.Millisecond
		stop := runs(t, k)
		tries, end := 0, time.After(time.Second)
		for again := true; again; {
			select {
			case c := <-p.conns:
				tries++
				if word != "" {
					c.Write(netstring(word))
					eventually(t, 10*time.Second, "connected", func() bool { return sink.count("connected") == tries })
				}
				c.Close()
			case <-end:
				again = false
			}
		}
		stop()
		if tries < 3 || tries > 30 { // waits of at least 5, 10, 20, 40 and then 50 ms
			t.Errorf("%q: %d tries in a second", word, tries)
		}
		if n := log.count("cannot reach"); word == "" && n != 1 {
			t.Errorf("%d complaints about %d tries", n, tries)
		}
	}
}

// lines is a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

// TestHints: the log says what to do.
func TestHints(t *testing.T) {
	p := newPeer(t)
	var log lines
	k := NewEvents(Config{Name: "proxy1", Evapi: p.addr(), Early: true, Log: slog.New(slog.NewTextHandler(&log, nil))}, &recorder{})
	k.timing = quick
	k.timing.silence = 50 * time.Millisecond
	runs(t, k)
	p.registered(t)
	eventually(t, 10*time.Second, "a hint at busylamp.cfg", func() bool {
		return log.count("is busylamp.cfg included") == 1 && log.count(p.addr()) > 0 && log.count("proxy=proxy1") > 0
	})
	for log.count("BUSYLAMP_EARLY") == 0 {
		select {
		case c := <-p.conns:
			say(t, c, "1", "h 0 -")
		case <-time.After(10 * time.Second):
			t.Fatal("no hint at BUSYLAMP_EARLY")
		}
	}
}

// TestFlood: an engine that is stuck costs events, and never holds up the proxy.
func TestFlood(t *testing.T) {
	p, sink := newPeer(t), &recorder{stuck: make(chan struct{}), forget: true}
	k, stop := run(t, p.addr(), sink, quick)
	c := p.registered(t)
	say(t, c, "1", "h 0 -")
	eventually(t, 10*time.Second, "connected", func() bool { return sink.count("connected") == 1 })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c.SetWriteDeadline(time.Now().Add(60 * time.Second))
	events, long := 0, b64(strings.Repeat("x", busylamp.MaxURI))
	for sent := 0; sent < 2*maxWaiting; {
		payload := "busylamp/1 1"
		for range 8 {
			events++
			payload += fmt.Sprintf("\nc %d 1:%[1]d %s %[2]s -", events, long)
		}
		n, err := c.Write(netstring(payload))
		if err != nil {
			t.Fatalf("the reader does not drain: %d events went: %v", events, err)
		}
		sent += n
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 2*maxWaiting {
		t.Errorf("%d MB are held", grown>>20)
	}
	close(sink.stuck)
	eventually(t, 30*time.Second, "doubt", func() bool { return sink.count("doubt events dropped") > 0 })
	if n := k.Count.Dropped.Load(); n == 0 || int(n) > events/8 {
		t.Errorf("%d frames dropped", n)
	}
	stop()
}
