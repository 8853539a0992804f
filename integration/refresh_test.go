package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/stack"
)

// TestLongCallManyRefreshes: a presence server that grants 6 s makes a call of 30 s a long
// one. Each refresh gets a new entity-tag, and whoever watches sees no gap: with a server
// that keeps publications in tables, and with one that has memory alone, which forgets a
// body that a refresh does not repeat.
func TestLongCallManyRefreshes(t *testing.T) {
	t.Parallel() // it waits most of the time
	for name, tables := range map[string]bool{"tables": true, "memory": false} {
		t.Run(name, func(t *testing.T) { longCall(t, tables) })
	}
}

func longCall(t *testing.T, tables bool) {
	const lasts = 30 * time.Second
	ctx, s := newStack(t)
	presence, err := s.Presence(ctx, stack.KamailioOptions{MaxExpires: 6 * time.Second, Tables: tables})
	check(t, err)
	proxy, err := s.Proxy(ctx, stack.KamailioOptions{})
	check(t, err)
	sidecar, err := s.Sidecar(ctx, stack.SidecarConfig{Evapi: proxy.Evapi, RPC: proxy.RPC, Server: presence.Addr, Sides: "callee"})
	check(t, err)
	check(t, sidecar.WaitReady(ctx, 20*time.Second))
	phones, err := s.Phones(proxy.Addr, stack.Domain)
	check(t, err)
	check(t, phones.Register(ctx, "bob"))
	watcher, err := s.Watcher(presence.Addr, stack.Domain)
	check(t, err)
	check(t, watcher.Watch(ctx, "bob"))

	call, err := phones.Call(ctx, "alice", "bob")
	check(t, err)
	lit := sees(t, watcher, true, 2*time.Second)
	notifies := steady(t, watcher, call.Answered.Add(lasts))
	check(t, call.Hangup(ctx))
	dark := sees(t, watcher, false, 2*time.Second)
	check(t, watcher.Err())

	var m stack.Metrics
	check(t, s.Wait(ctx, 2*time.Second, "the removal's answer", func() (err error) {
		if m, err = sidecar.Metrics(ctx); err == nil && m.Published("remove", "accepted") == 0 {
			err = fmt.Errorf("none yet")
		}
		return err
	}))
	refreshes := m.Published("refresh", "accepted")
	if n := m.Published("initial", "accepted"); n != 1 {
		t.Errorf("%d initial PUBLISHes, not 1", n)
	}
	if refreshes < 5 {
		t.Errorf("%d refreshes, not 5 or more", refreshes)
	}
	if n := m.Published("remove", "accepted"); n != 1 {
		t.Errorf("%d removals, not 1", n)
	}
	for _, kind := range []string{"initial", "refresh", "modify", "remove"} {
		for _, result := range []string{"gone", "failed", "refused"} {
			if n := m.Published(kind, result); n != 0 {
				t.Errorf("%d times %s was %s", n, kind, result)
			}
		}
	}
	t.Logf("lit %v after the 200 OK, %d refreshes in %v, %d NOTIFYs and no gap, dark %v after the BYE",
		lit.Sub(call.Answered).Round(10*time.Microsecond), refreshes, lasts, notifies, dark.Sub(call.Ended).Round(10*time.Microsecond))
}

// sees waits for a NOTIFY that says so, and returns when it came.
func sees(t *testing.T, w *stack.Watcher, busy bool, atMost time.Duration) time.Time {
	t.Helper()
	late := time.After(atMost)
	for {
		select {
		case s := <-w.Seen():
			if s.OnThePhone == busy {
				return s.At
			}
		case <-late:
			t.Fatalf("the watcher did not see on-the-phone %v within %v", busy, atMost)
		}
	}
}

// steady checks until a time that every NOTIFY says on the phone, and counts them.
func steady(t *testing.T, w *stack.Watcher, until time.Time) (notifies int) {
	t.Helper()
	end := time.After(time.Until(until))
	for {
		select {
		case s := <-w.Seen():
			if notifies++; !s.OnThePhone {
				t.Fatalf("%v before the call's end the watcher saw a gap; the document was:\n%s", until.Sub(s.At), s.Document)
			}
		case <-end:
			return notifies
		}
	}
}
