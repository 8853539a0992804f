package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// TestEvapi: what can happen to the connection to evapi happens to it under 100 calls/s.
// Each time it is found and the connection made anew, nobody stays lit or dark, and who
// talks all the while never goes dark.
func TestEvapi(t *testing.T) {
	t.Parallel() // it waits most of the time
	sc := newEvapiScene(t)
	for _, f := range []struct {
		row, name string
		do        []func(sc *evapiScene) // each breaks the connection
	}{
		{"evapi-reset", "reset", []func(*evapiScene){(*evapiScene).reset, (*evapiScene).reset, (*evapiScene).reset}},
		{"evapi-cut", "cut and closed", mangles(cutInside(true), cutInside(true), cutInside(true))},
		{"evapi-cut", "cut and spliced", mangles(cutInside(false), cutInside(false), cutInside(false))},
		{"evapi-garbage", "garbage", mangles(instead(noise(4096)), instead("HTTP/1.1 400 Bad Request\r\n\r\n"), instead(strings.Repeat("\x00", 4096)))},
		{"evapi-length", "length", mangles(instead("-5:"), instead("99999999999999999:"), instead("200000000000:"))},
	} {
		sc.run(t, f.name, func(t *testing.T, sc *evapiScene) {
			var found time.Duration
			placed := sc.underLoad(t, evapiRate, evapiLasts, func() {
				for _, do := range f.do {
					found = max(found, sc.breaks(t, do))
				}
			})
			record.Fault(t, f.row, len(f.do), "%s: reconnected, compared and right within %v, under %d calls", f.name, found.Round(10*time.Millisecond), placed)
		})
	}
	sc.run(t, "large", evapiLarge)
	sc.run(t, "half open", func(t *testing.T, sc *evapiScene) { evapiHalfOpen(t, sc, false) })
	sc.run(t, "half open for all", func(t *testing.T, sc *evapiScene) { evapiHalfOpen(t, sc, true) })
	sc.run(t, "shuffled", evapiShuffled)
	sc.run(t, "lost", evapiLost)
	sc.run(t, "no answer", evapiNoAnswer)
	neverDark(t, sc.recorder, sc.talkers)
	sc.hangup(t, 200)
	sc.agrees(t, 10*time.Second)
}

// run does a test with the scene, and ends its faults.
func (sc *evapiScene) run(t *testing.T, name string, f func(t *testing.T, sc *evapiScene)) {
	t.Run(name, func(t *testing.T) {
		defer func() {
			sc.evapi.Mangle(nil)
			sc.evapi.Heal()
			sc.rpc.Heal()
		}()
		f(t, sc)
	})
}

// reset resets the connection; new ones are let through.
func (sc *evapiScene) reset() {
	sc.evapi.Cut()
	sc.evapi.Heal()
}

// mangles makes a fault of each mangler, which gets one frame.
func mangles(ms ...stack.Mangler) (faults []func(*evapiScene)) {
	for _, m := range ms {
		faults = append(faults, func(sc *evapiScene) {
			m, done := once(m)
			sc.evapi.Mangle(m)
			select {
			case <-done:
			case <-sc.ctx.Done():
			}
		})
	}
	return faults
}

func noise(n int) string {
	r := rand.NewChaCha8([32]byte{4})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return string(b)
}

// breaks does what breaks the connection, and returns how long it took until all was right.
func (sc *evapiScene) breaks(t *testing.T, do func(*evapiScene)) time.Duration {
	t.Helper()
	before := sc.metrics(t)
	do(sc)
	began := time.Now()
	sc.reconnected(t, before, 15*time.Second)
	sc.settled(t, 15*time.Second)
	return time.Since(began)
}

// evapiLarge: frames of 10 MB, which nobody takes into memory, and of 60 kB, which could be
// a foreign one but says that it is ours.
func evapiLarge(t *testing.T, sc *evapiScene) {
	const size = 10 << 20
	big := func(head string, n int) string {
		return string(stack.Netstring([]byte(head + strings.Repeat("x", n-len(head)))))
	}
	faults := mangles(instead(big("", size)), instead(big("busylamp/1 1\n", size)), instead(big("busylamp/1 1\n", 60_000)))
	before := sc.metrics(t)["process_resident_memory_bytes"]
	most := before
	var found time.Duration
	placed := sc.underLoad(t, evapiRate, evapiLasts, func() {
		for _, do := range faults {
			found = max(found, sc.breaks(t, do))
			most = max(most, sc.metrics(t)["process_resident_memory_bytes"])
		}
	})
	if most-before > size*8/10 {
		t.Errorf("the resident memory went from %.1f to %.1f MB", before/1e6, most/1e6)
	}
	record.Fault(t, "evapi-large", len(faults), "reconnected, compared and right within %v, under %d calls; resident memory %.1f MB before, %.1f MB at most",
		found.Round(10*time.Millisecond), placed, before/1e6, most/1e6)
}

// evapiHalfOpen: every packet of the connection is lost, and with forAll those of new
// connections, too, until it is over.
func evapiHalfOpen(t *testing.T, sc *evapiScene, forAll bool) {
	const rate, silence = 50, 8 * time.Second
	lasts := 7 * time.Second
	if forAll {
		lasts = silence + time.Second
	}
	var found, right time.Duration
	placed := sc.underLoad(t, rate, lasts, func() {
		before := sc.metrics(t)
		sc.evapi.Silence(forAll)
		began := time.Now()
		check(t, sc.Wait(sc.ctx, 15*time.Second, "that the silence is found", func() error {
			m, err := sc.sidecar.Metrics(sc.ctx)
			if err == nil && evapiTotal(m, "connects") == evapiTotal(before, "connects") && m[`busylamp_proxy_connected{proxy="proxy1"}`] == 1 {
				err = errors.New("not yet")
			}
			return err
		}))
		found = time.Since(began)
		if forAll {
			time.Sleep(time.Until(began.Add(silence)))
			sc.evapi.Heal()
			began = time.Now()
		}
		sc.reconnected(t, before, 15*time.Second)
		sc.settled(t, 15*time.Second)
		right = time.Since(began)
	})
	sc.evapi.Heal()
	if forAll {
		record.Fault(t, "evapi-half-open", 1, "silent for %v, new connections too: found after %v, right %v after the silence, under %d calls",
			silence, found.Round(10*time.Millisecond), right.Round(10*time.Millisecond), placed)
		return
	}
	record.Fault(t, "evapi-half-open", 1, "silent for good: found after %v, right %v after it began, under %d calls",
		found.Round(10*time.Millisecond), right.Round(10*time.Millisecond), placed)
}

// evapiShuffled: events doubled, at once, and when their call is over; turned around within
// the time that the sidecar waits for a missing number; and beyond it.
func evapiShuffled(t *testing.T, sc *evapiScene) {
	for _, c := range []struct {
		name  string
		lines *lines
	}{
		{"every event doubled, at once and 1.5 s later", every(1, 0, 0, 1500*time.Millisecond)},
		{"every event held back for 0 to 0.5 s", shuffled(500*time.Millisecond, 4)},
		{"every event held back for 0 to 3 s", shuffled(3*time.Second, 5)},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := sc.metrics(t)
			// The last events are let through: what is held back waits for the next frame, and
			// without calls that is the next heartbeat.
			c.lines.until = time.Now().Add(evapiLasts * 3 / 4)
			sc.evapi.Mangle(c.lines.mangle)
			placed := sc.underLoad(t, evapiRate, evapiLasts, func() {})
			check(t, sc.Wait(sc.ctx, 10*time.Second, "the lines that are held back", func() error {
				if n := c.lines.waiting.Load(); n > 0 {
					return fmt.Errorf("%d", n)
				}
				return nil
			}))
			sc.evapi.Mangle(nil)
			sc.agrees(t, 10*time.Second)
			after := sc.metrics(t)
			late := after["busylamp_call_events_late_total"] - before["busylamp_call_events_late_total"]
			if late == 0 {
				t.Error("no event came doubled or late, so this test shows nothing")
			}
			record.Fault(t, "events-shuffled", int(c.lines.count.Load()), "%s under %d calls: %.0f changed nothing, %d given up for lost, %d comparisons; every lamp right",
				c.name, placed, late, evapiTotal(after, "lost")-evapiTotal(before, "lost"), resyncs(after)-resyncs(before))
		})
	}
}

// evapiLost: every tenth event is lost on the way, out of its frame. Each is missed.
func evapiLost(t *testing.T, sc *evapiScene) {
	lost := every(10)
	before := sc.metrics(t)
	sc.evapi.Mangle(lost.mangle)
	var ended time.Time
	placed := sc.underLoad(t, evapiRate, evapiLasts, func() { ended = time.Now().Add(evapiLasts + 100*time.Millisecond) })
	right := max(0, time.Since(ended))
	sc.evapi.Mangle(nil)
	var after stack.Metrics
	var missed int
	check(t, sc.Wait(sc.ctx, 10*time.Second, "that every lost event is missed", func() (err error) {
		if after, err = sc.sidecar.Metrics(sc.ctx); err != nil {
			return err
		}
		missed = evapiTotal(after, "lost") - evapiTotal(before, "lost")
		if n := int(lost.count.Load()); missed < n {
			return fmt.Errorf("%d were lost, and %d missed", n, missed)
		}
		return nil
	}))
	record.Fault(t, "events-lost", int(lost.count.Load()), "every tenth event of %d calls lost on the way: %d missed, all lamps right %v after the load, by %d comparisons",
		placed, missed, right.Round(10*time.Millisecond), resyncs(after)-resyncs(before))
}

// evapiNoAnswer: the connection to evapi is reset, and JSON-RPC is refused for a while and
// then hangs. Nobody is cleared before the proxy has said who is still in a call.
func evapiNoAnswer(t *testing.T, sc *evapiScene) {
	const refused, hung = 2 * time.Second, 3 * time.Second
	up := sc.phones.Run(sc.ctx, stack.Load{Rate: 50, For: 2 * leavers * time.Second / 50, Hold: -1,
		Pair: func(i int) (string, string) { return pair(talkers + evapiUsers + i) }})
	noFailures(t, up)
	sc.agrees(t, 10*time.Second)
	stay, leave := up.Calls[:leavers], up.Calls[leavers:]
	var right time.Duration
	placed := sc.underLoad(t, 50, refused+hung+time.Second, func() {
		before := sc.metrics(t)
		sc.rpc.Cut()
		sc.evapi.Cut()
		for _, c := range leave {
			check(t, c.Hangup(sc.ctx))
		}
		sc.evapi.Heal()
		sc.allLit(t, refused, up.Calls, sc.talkers)
		sc.rpc.Heal()
		sc.rpc.Silence(true)
		sc.allLit(t, hung, up.Calls, sc.talkers)
		if m := sc.metrics(t); evapiTotal(m, "connects") == evapiTotal(before, "connects") || m[`busylamp_proxy_in_step{proxy="proxy1"}`] != 0 {
			t.Error("the sidecar is not connected, or does not know that it is in doubt, so this test shows nothing")
		}
		sc.rpc.Heal()
		answers := time.Now()
		sc.reconnected(t, before, 30*time.Second)
		sc.settled(t, 15*time.Second)
		right = time.Since(answers)
	})
	neverDark(t, sc.recorder, stay)
	record.Fault(t, "evapi-reset", 1, "and JSON-RPC refused for %v, then hung for %v: nobody cleared until it answered, %d who had hung up clear within %v then, under %d calls",
		refused, hung, 2*len(leave), right.Round(10*time.Millisecond), placed)
	for _, c := range stay {
		check(t, c.Hangup(sc.ctx))
	}
	sc.agrees(t, 10*time.Second)
}

// allLit checks for a while that the parties of calls are lit.
func (sc *evapiScene) allLit(t *testing.T, lasts time.Duration, groups ...[]*stack.Call) {
	t.Helper()
	for end := time.Now().Add(lasts); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		lit := sc.recorder.Lit()
		for _, c := range slices.Concat(groups...) {
			if lit[c.From] == 0 || lit[c.To] == 0 {
				t.Fatalf("%s or %s is dark, though the proxy has not said that their call is over", c.From, c.To)
			}
		}
	}
}
