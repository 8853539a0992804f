package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// TestFrozenForGood: under 100 calls/s the sidecar freezes and never goes on. No call
// fails; its signs of life stop, and a supervisor that does what systemd does with
// busylamp.service kills it and starts it again, and the lamps are right. A request that was
// under way when it froze can leave an orphan (I3), which dies within its Expires.
func TestFrozenForGood(t *testing.T) {
	const rate, users, watchdog, expires = 100, 1200, 10 * time.Second, 20 * time.Second
	sc := newScene(t, stack.KamailioOptions{Shared: 256})
	sc.register(t, users+50)
	sidecar, supervisor, err := sc.Supervise(sc.ctx, stack.SidecarConfig{Evapi: sc.proxy.Evapi, RPC: sc.proxy.RPC,
		Server: sc.recorder.Addr, Expires: expires}, watchdog)
	check(t, err)
	check(t, sidecar.WaitReady(sc.ctx, 20*time.Second))

	done := make(chan stack.LoadResult, 1)
	go func() {
		done <- sc.phones.Run(sc.ctx, stack.Load{Rate: rate, For: watchdog + 12*time.Second, Hold: 3 * time.Second,
			Pair: func(i int) (string, string) { return pair(i % users) }})
	}()
	time.Sleep(7 * time.Second) // a sign of life or two, to see them stop
	if n := sc.wrong(); n > slack {
		t.Fatalf("%d lamps are wrong before", n)
	}
	check(t, sidecar.Freeze())
	frozen := time.Now()
	time.Sleep(time.Second)
	held := sc.phones.Run(sc.ctx, stack.Load{Rate: 50, For: time.Second, Hold: -1, // unseen, and they stay
		Pair: func(i int) (string, string) { return pair(users + i) }})
	noFailures(t, held)
	time.Sleep(time.Until(frozen.Add(watchdog / 3)))
	stale := sc.wrong()
	if stale < rate {
		t.Errorf("only %d lamps are wrong %v after the sidecar froze, so this test proves little", stale, watchdog/3)
	}
	var restart stack.Restart
	select {
	case restart = <-supervisor.Restarts:
	case <-time.After(2 * watchdog):
		t.Fatalf("not restarted (%v); %d signs of life", supervisor.Err(), len(supervisor.Heard()))
	}
	if d := restart.Killed.Sub(frozen); d > watchdog+time.Second {
		t.Errorf("killed %v after it froze, though the watchdog waits for %v", d, watchdog)
	}
	before := 0
	for _, at := range supervisor.Heard() {
		if at.Before(frozen) {
			before++
		} else if at.Before(restart.Killed) && at.Sub(frozen) > time.Second {
			t.Errorf("a sign of life came %v after it froze", at.Sub(frozen))
		}
	}
	if before < 2 {
		t.Errorf("%d signs of life before it froze, so their end proves nothing", before)
	}
	check(t, sc.Wait(sc.ctx, 30*time.Second, "lamps that agree with the calls under load", func() error {
		if n := sc.wrong(); n > slack {
			return fmt.Errorf("%d are wrong", n)
		}
		return nil
	}))
	right := time.Now()

	res := <-done
	noFailures(t, res)
	if want := int((watchdog + 10*time.Second).Seconds()) * rate; res.Placed < want {
		t.Errorf("%d calls were placed, fewer than %d, so this test proves little", res.Placed, want)
	}
	sc.hangup(t, 200)
	time.Sleep(time.Second)
	left := len(sc.recorder.Lit())
	if left > slack {
		t.Errorf("%d users are lit after the last call", left)
	}
	sc.agrees(t, expires)
	check(t, supervisor.Err())
	record.Fault(t, "sidecar-hung", 1, "%d calls at %d/s, none failed; killed %.1f s after it froze (the watchdog waits %v), %d lamps wrong; serving %.2f s after the kill, lamps right %.2f s after it but for %d orphans",
		res.Placed+len(held.Calls), rate, restart.Killed.Sub(frozen).Seconds(), watchdog, stale, restart.Ready.Sub(restart.Killed).Seconds(), right.Sub(restart.Killed).Seconds(), left)
}
