package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// shortWait lets tm forget an ended transaction after 1 s instead of 5. The proxy alone
// takes some 30 kB for a call until then: above 350 calls/s, 64 MB are not enough for it,
// whether busylamp is there or not.
const shortWait = `modparam("tm", "wt_timer", 1000)`

// TestFrozenSidecar: a sidecar that stops reading for 20 s costs the proxy no call, at
// 600 calls/s and with the shared memory that Debian gives it (64 MB). When it goes on, it
// finds the truth: who hung up meanwhile is dark, and who is still in a call is lit.
func TestFrozenSidecar(t *testing.T) {
	const freeze, users, long = 20 * time.Second, 3000, 50
	sc := newScene(t, stack.KamailioOptions{Shared: 64, Settings: shortWait})
	sc.register(t, users+long)
	sc.phones.LongCallIDs()
	// The callers' names are too long for a PUBLISH by UDP, which is all that the recorder
	// takes.
	sc.start(t, stack.SidecarConfig{Sides: "callee"})
	rate := sc.sustained(t, users, 600, 300)

	done := make(chan stack.LoadResult, 1)
	go func() {
		done <- sc.phones.Run(sc.ctx, stack.Load{Rate: rate, For: freeze + 6*time.Second, Hold: 2 * time.Second,
			Pair: func(i int) (string, string) { return longPair(i % users) }})
	}()
	time.Sleep(2 * time.Second)
	check(t, sc.sidecar.Freeze())
	frozen := time.Now()
	time.Sleep(freeze / 2)
	// These calls begin unseen, and stay.
	held := sc.phones.Run(sc.ctx, stack.Load{Rate: 50, For: time.Second, Hold: -1,
		Pair: func(i int) (string, string) { return longPair(users + i) }})
	noFailures(t, held)
	time.Sleep(time.Until(frozen.Add(freeze)))
	free, err := sc.proxy.SharedFree()
	check(t, err)
	waiting, err := sc.proxy.Waiting()
	check(t, err)
	if rate == 600 && waiting != 8192 {
		t.Errorf("the proxy's queue holds %d events and is not full, so this test proves nothing", waiting)
	}
	check(t, sc.sidecar.Thaw())
	thawed := time.Now()

	check(t, sc.Wait(sc.ctx, 30*time.Second, "lamps of the calls that began unseen", func() error {
		lit := sc.recorder.Lit()
		for _, c := range held.Calls {
			if lit[c.To] == 0 {
				return fmt.Errorf("%s is dark", c.To)
			}
		}
		return nil
	}))
	unseen := time.Since(thawed)

	res := <-done
	noFailures(t, res)
	ended := time.Since(thawed)
	healed := sc.agreesOn(t, "callee", 30*time.Second-ended)
	record.Fault(t, "sidecar-frozen", 1, "none of %d calls at %d/s failed; after %v the queue held %d events and %d MB of shared memory were free; %d calls that began unseen were lit %v after the thaw; the load ended %v after it, all lamps were right %v later",
		res.Placed, rate, freeze, waiting, free>>20, long, unseen.Round(time.Millisecond), ended.Round(10*time.Millisecond), healed.Round(time.Millisecond))
	if waiting == 8192 {
		m, err := sc.sidecar.Metrics(sc.ctx)
		check(t, err)
		starts, ends := m[`busylamp_drift_total{cause="start_lost"}`], m[`busylamp_drift_total{cause="end_lost"}`]
		record.Fault(t, "events-lost", int(starts+ends), "the proxy's queue overflowed while the sidecar was frozen for %v: the start of %.0f calls that were up was lost, and the end of %.0f; found and healed by %d comparisons", freeze, starts, ends, resyncs(m))
	}
	sc.hangup(t, 200)
	sc.agreesOn(t, "callee", 10*time.Second)
}

// sustained returns the first of some rates that the proxy serves on this machine, as busy
// as it is, without losing a packet: what fails then is not the sidecar's doing.
func (sc *scene) sustained(t *testing.T, users int, rates ...int) int {
	t.Helper()
	for _, rate := range rates {
		before, err := sc.proxy.Drops()
		check(t, err)
		res := sc.phones.Run(sc.ctx, stack.Load{Rate: rate, For: 4 * time.Second, Hold: time.Second,
			Pair: func(i int) (string, string) { return longPair(i % users) }})
		after, err := sc.proxy.Drops()
		check(t, err)
		if len(res.Failures) == 0 && after == before {
			return rate
		}
		t.Logf("this machine is too busy for %d calls/s: %d of %d failed, and %d packets were lost before the proxy read them",
			rate, len(res.Failures), res.Placed, after-before)
		time.Sleep(5 * time.Second) // the transactions' end
	}
	t.Fatal("the proxy cannot serve the load even with the sidecar well")
	return 0
}

// longPair names users whose events are large: the kernel's socket buffers take 4 MB
// before the proxy notices that nobody reads. (The registrar takes no long names.)
func longPair(i int) (from, to string) {
	from, to = pair(i)
	return from + strings.Repeat("x", 225), to
}

// hangup ends all calls.
func (sc *scene) hangup(t *testing.T, rate int) {
	t.Helper()
	for i, err := range sc.phones.HangupAll(sc.ctx, rate) {
		if i < 5 {
			t.Errorf("%v", err)
		}
	}
}

// TestProxyRestartUnderLoad: the proxy is killed under 100 calls/s and starts again, with
// an empty memory. Nobody stays lit of those whose calls it has forgotten, and new calls
// light.
func TestProxyRestartUnderLoad(t *testing.T) {
	const rate, users = 100, 500
	sc := newScene(t, stack.KamailioOptions{})
	sc.register(t, users)
	sc.start(t, stack.SidecarConfig{})
	gone := sc.doomed(t)

	done := make(chan stack.LoadResult, 1)
	go func() {
		done <- sc.phones.Run(sc.ctx, stack.Load{Rate: rate, For: 15 * time.Second, Hold: 3 * time.Second,
			Pair: func(i int) (string, string) { return pair(i % users) }})
	}()
	time.Sleep(5 * time.Second)
	killed := time.Now()
	sc.proxy.Kill()
	gone.Forget()
	litThen := len(sc.recorder.Lit())
	time.Sleep(2 * time.Second)
	check(t, sc.proxy.Restart(sc.ctx))
	restarted := time.Now()
	sc.register(t, users)
	registered := time.Now()
	check(t, sc.Wait(sc.ctx, 30*time.Second, "dark lamps of gone1 and gone2", func() error {
		return darkened(sc.recorder, "gone1", "gone2")
	}))
	cleared := time.Since(restarted)

	res := <-done
	lost := 0
	for _, f := range res.Failures {
		// What was placed before then may have met no proxy, or one that knew no phones.
		if f.Placed.After(registered) {
			t.Errorf("placed %v after the restart: %v", f.Placed.Sub(restarted), f.Err)
		}
		lost++
	}
	healed := sc.agrees(t, time.Until(restarted.Add(30*time.Second)))
	check(t, sc.sidecar.WaitReady(sc.ctx, 10*time.Second))
	newCall(t, sc)
	record.Fault(t, "proxy-killed", 1, "%d lit when it was killed; down for %v, which cost %d of %d calls; the forgotten calls were dark %v after the restart; all lamps right %v after the load",
		litThen, restarted.Sub(killed).Round(time.Millisecond), lost, res.Placed, cleared.Round(time.Millisecond), healed.Round(time.Millisecond))
}

// doomed returns the phones of gone1 and gone2, who are in a call. They are to go with the proxy
// (a power cut): no BYE will ever come.
func (sc *scene) doomed(t *testing.T) *stack.Phones {
	t.Helper()
	gone, err := sc.Phones(sc.proxy.Addr, stack.Domain)
	check(t, err)
	check(t, gone.Register(sc.ctx, "gone2"))
	_, err = gone.Call(sc.ctx, "gone1", "gone2")
	check(t, err)
	return gone
}

func darkened(r *stack.Recorder, users ...string) error {
	lit := r.Lit()
	for _, user := range users {
		if lit[user] > 0 {
			return fmt.Errorf("%s is lit", user)
		}
	}
	return nil
}

// newCall checks that a call lights and clears.
func newCall(t *testing.T, sc *scene) {
	t.Helper()
	ctx, cancel := context.WithTimeout(sc.ctx, 10*time.Second)
	defer cancel()
	from, to := pair(0)
	call, err := sc.phones.Call(ctx, from, to)
	check(t, err)
	sc.agrees(t, 10*time.Second)
	if lit := sc.recorder.Lit(); len(lit) != 2 {
		t.Errorf("%d users are lit in a new call, not 2: %v", len(lit), lit)
	}
	check(t, call.Hangup(ctx))
	sc.agrees(t, 10*time.Second)
}

// TestConnectionLost: the connection to evapi is cut while calls begin, go on and end.
// What was missed is healed when it is back, and who talks all the while never goes dark.
func TestConnectionLost(t *testing.T) {
	t.Parallel() // it waits most of the time
	const calls, cut = 50, 5 * time.Second
	sc := newScene(t, stack.KamailioOptions{})
	sc.register(t, 2*calls)
	relay, err := sc.Relay(sc.proxy.Evapi)
	check(t, err)
	sc.start(t, stack.SidecarConfig{Evapi: relay.Addr})
	before := sc.phones.Run(sc.ctx, stack.Load{Rate: 100, For: calls * time.Second / 100, Hold: -1, Pair: pair})
	noFailures(t, before)
	sc.agrees(t, 10*time.Second)

	relay.Cut()
	lost := time.Now()
	ended, talking := before.Calls[:calls/2], before.Calls[calls/2:]
	for _, c := range ended {
		check(t, c.Hangup(sc.ctx))
	}
	during := sc.phones.Run(sc.ctx, stack.Load{Rate: 100, For: calls * time.Second / 200, Hold: -1,
		Pair: func(i int) (string, string) { return pair(calls + i) }})
	noFailures(t, during)
	time.Sleep(time.Until(lost.Add(cut)))
	if stack.Compare(sc.recorder.Lit(), sc.phones.InCalls()) == nil {
		t.Fatal("the lamps are right though the connection is cut: is the relay in between?")
	}
	relay.Heal()
	healed := sc.agrees(t, 10*time.Second)
	users := stack.ByUser(sc.recorder.All())
	for _, c := range talking {
		for _, user := range []string{c.From, c.To} {
			if n := len(users[user]); n != 1 {
				t.Errorf("%s, who talked all the while, was published %d times, not once", user, n)
			}
		}
	}
	t.Logf("cut for %v, in which %d calls ended and %d began; all lamps were right %v after it",
		cut, len(ended), len(during.Calls), healed.Round(time.Millisecond))
	sc.hangup(t, 200)
	sc.agrees(t, 10*time.Second)
}
