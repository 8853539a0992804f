package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// TestProxyRestartWithDialogs: the proxy, which keeps its dialogs in a database, is killed
// under load and starts again. Who talks on is never dark. Who hangs up meanwhile is clear
// when the BYE has come through. Calls whose phones are gone are still the proxy's, until
// it asks the phones.
func TestProxyRestartWithDialogs(t *testing.T) {
	t.Parallel()                                                       // it waits most of the time
	const rate, users, long, keepalive = 50, 300, 20, 30 * time.Second // the shortest that Kamailio takes
	sc := newScene(t, stack.KamailioOptions{Dialogs: true, Defines: []string{"PROXY_KEEPALIVE=30"},
		Settings: `modparam("dialog", "ka_timer", 1)`})
	sc.register(t, users+2*long)
	sc.start(t, stack.SidecarConfig{})
	up := sc.phones.Run(sc.ctx, stack.Load{Rate: rate, For: 2 * long * time.Second / rate, Hold: -1,
		Pair: func(i int) (string, string) { return pair(users + i) }})
	noFailures(t, up)
	talking, leaving := up.Calls[:long], up.Calls[long:]
	gone := sc.doomed(t)

	done := make(chan stack.LoadResult, 1)
	go func() {
		done <- sc.phones.Run(sc.ctx, stack.Load{Rate: rate, For: 10 * time.Second, Hold: 3 * time.Second,
			Pair: func(i int) (string, string) { return pair(i % users) }})
	}()
	time.Sleep(4 * time.Second)
	sc.proxy.Kill()
	killed := time.Now()
	gone.Forget()
	lit := len(sc.recorder.Lit())
	hung := make(chan error, len(leaving))
	for _, c := range leaving {
		go func() { hung <- c.Hangup(sc.ctx) }()
	}
	time.Sleep(2 * time.Second)
	check(t, sc.proxy.Restart(sc.ctx))
	restarted := time.Now()
	kept, err := sc.proxy.Dialogs()
	check(t, err)
	if kept < 2*long {
		t.Errorf("the proxy has %d dialogs after its restart, not %d: it kept none", kept, 2*long)
	}
	sc.register(t, users)
	registered := time.Now()
	for range leaving {
		check(t, <-hung)
	}
	byes := time.Now()
	check(t, sc.Wait(sc.ctx, 10*time.Second, "dark lamps of those who hung up while the proxy was down", func() error {
		return darkened(sc.recorder, parties(leaving)...)
	}))
	left := time.Since(byes)
	check(t, errors.Join(sc.sidecar.WaitReady(sc.ctx, 10*time.Second)))

	res := <-done
	for _, f := range res.Failures {
		if f.Placed.After(registered) {
			t.Errorf("placed %v after the restart: %v", f.Placed.Sub(restarted), f.Err)
		}
	}
	check(t, sc.Wait(sc.ctx, time.Until(restarted.Add(keepalive+20*time.Second)), "dark lamps of gone1 and gone2", func() error {
		return darkened(sc.recorder, "gone1", "gone2")
	}))
	cleared := time.Since(killed)
	sc.agrees(t, 10*time.Second)
	neverDark(t, sc.recorder, talking)
	record.Fault(t, "proxy-killed-db", 1, "%d lit when it was killed, down %v, %d dialogs restored: %d calls talked on and never dark, %d hung up meanwhile and clear %v after their BYE went through, phones that were gone clear %v after the kill (keepalive %v); %d of %d calls failed",
		lit, restarted.Sub(killed).Round(10*time.Millisecond), kept, len(talking), len(leaving), left.Round(10*time.Millisecond), cleared.Round(100*time.Millisecond), keepalive, len(res.Failures), res.Placed)
	sc.hangup(t, 200)
	sc.agrees(t, 10*time.Second)
}

// parties names everybody in some calls.
func parties(calls []*stack.Call) (users []string) {
	for _, c := range calls {
		users = append(users, c.From, c.To)
	}
	return users
}

// TestQueueOverflows: the proxy's queue is short and drained once a second, so that it
// overflows all the time under 100 calls/s: most events are lost. What the sidecar shows in
// between is late, and after the load it is right.
func TestQueueOverflows(t *testing.T) {
	t.Parallel() // it waits most of the time
	const rate, users, lasts = 100, 400, 6 * time.Second
	sc := newScene(t, stack.KamailioOptions{Defines: []string{`BUSYLAMP_QUEUE="name=busylamp;size=100"`,
		`BUSYLAMP_TIMER_DRAIN="name=busylamp_drain;interval=1;mode=1;"`}})
	sc.register(t, users+talkers)
	sc.start(t, stack.SidecarConfig{})
	up := sc.phones.Run(sc.ctx, stack.Load{Rate: 20, For: talkers * time.Second / 20, Hold: -1,
		Pair: func(i int) (string, string) { return pair(users + i) }})
	noFailures(t, up)
	sc.agrees(t, 15*time.Second)
	res := sc.phones.Run(sc.ctx, stack.Load{Rate: rate, For: lasts, Hold: time.Second,
		Pair: func(i int) (string, string) { return pair(i % users) }})
	noFailures(t, res)
	right := sc.agrees(t, 30*time.Second)
	m, err := sc.sidecar.Metrics(sc.ctx)
	check(t, err)
	neverDark(t, sc.recorder, up.Calls)
	record.Fault(t, "events-lost", evapiTotal(m, "lost"), "the proxy's queue overflowed under %d calls: of %d events %d lost and missed, all lamps right %v after the load, by %d comparisons",
		res.Placed, 2*res.Placed, evapiTotal(m, "lost"), right.Round(10*time.Millisecond), resyncs(m))
	sc.hangup(t, 20)
	sc.agrees(t, 10*time.Second)
}

// TestProxyGoneForGood: a proxy dies and does not come back. Its calls are kept while it
// would keep them itself, and released when they have timed out; the log says so.
func TestProxyGoneForGood(t *testing.T) {
	t.Parallel() // it waits most of the time
	const calls, lasts = 20, 45 * time.Second
	ctx, s := newStack(t)
	sc := &scene{Stack: s, ctx: ctx}
	var err error
	sc.recorder, err = s.Recorder()
	check(t, err)
	dump := filepath.Join(s.Dir, "dump")
	sc.proxy, err = s.Proxy(ctx, stack.KamailioOptions{Defines: []string{fmt.Sprintf("BUSYLAMP_DUMP=%q", dump)},
		Settings: fmt.Sprintf(`modparam("dialog", "default_timeout", %d)`, int(lasts.Seconds()))})
	check(t, err)
	sc.phones, err = s.Phones(sc.proxy.Addr, stack.Domain)
	check(t, err)
	sc.register(t, calls)
	sc.start(t, stack.SidecarConfig{Dump: dump})
	began := time.Now()
	noFailures(t, sc.phones.Run(ctx, stack.Load{Rate: 20, For: calls * time.Second / 20, Hold: -1, Pair: pair}))
	sc.agrees(t, 10*time.Second)
	check(t, sc.sidecar.Resync(ctx)) // it says when they time out
	check(t, sc.Wait(ctx, 10*time.Second, "a second comparison", func() error {
		m, err := sc.sidecar.Metrics(ctx)
		if err == nil && m[`busylamp_resyncs_total{result="asked"}`] < 2 {
			err = fmt.Errorf("not yet")
		}
		return err
	}))
	check(t, sc.sidecar.WaitReady(ctx, 10*time.Second))
	sc.proxy.Kill()
	sc.phones.Forget()
	time.Sleep(time.Until(began.Add(lasts)))
	if n := len(sc.recorder.Lit()); n != 2*calls {
		t.Errorf("%d users are lit when their calls time out, not %d", n, 2*calls)
	}
	cleared := sc.agrees(t, 90*time.Second)
	if log, err := os.ReadFile(sc.sidecar.Log); err != nil || !strings.Contains(string(log), "calls released: they have timed out") {
		t.Errorf("the log does not say that the calls were released: %v", err)
	}
	record.Fault(t, "proxy-unreachable", calls, "%d calls of %v at a proxy that was killed; all lit until they timed out, all clear %v later, and the log says so",
		calls, lasts, cleared.Round(100*time.Millisecond))
}
