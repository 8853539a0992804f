package integration

import (
	"context"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// auditUsers is how many pairs of users call each other during the audits.
const auditUsers = 300

// audits places calls at a proxy with many dialogs, in turns with nothing else going on and
// with one comparison of all dialogs after the other, and records how long the callers
// waited for their 200 OK. Those who call are the pairs of users from a number on.
func audits(t *testing.T, sc *scene, dialogs, first int) {
	t.Helper()
	const rate, lasts, turns = 50, 5 * time.Second, 2
	before, err := sc.sidecar.Metrics(sc.ctx)
	check(t, err)
	var without, with []time.Duration
	var each []time.Duration // how long a comparison took
	for range turns {
		without = append(without, setups(t, sc, first, rate, lasts)...)
		ctx, stop := context.WithCancel(sc.ctx)
		done := make(chan []time.Duration, 1)
		go func() { done <- compareAll(ctx, sc.sidecar) }()
		with = append(with, setups(t, sc, first, rate, lasts)...)
		stop()
		each = append(each, <-done...)
		check(t, sc.sidecar.WaitReady(sc.ctx, time.Minute)) // the last one has ended
	}
	after, err := sc.sidecar.Metrics(sc.ctx)
	check(t, err)
	if n := after[`busylamp_resyncs_total{result="failed"}`] - before[`busylamp_resyncs_total{result="failed"}`]; n > 0 {
		t.Errorf("%.0f comparisons failed", n)
	}
	// A proxy that is held up makes its callers wait for seconds.
	if slow, p99 := spreadOf(with).p99, spreadOf(without).p99; slow > p99+250*time.Millisecond {
		t.Errorf("p99 of INVITE to 200 OK %v while dialogs are compared, and %v while not", slow, p99)
	}
	record.Fault(t, "audit", resyncs(after)-resyncs(before), "%d dialogs compared again and again (%v each at most) under %d calls/s: INVITE to 200 OK %v, without %v; none of %d calls failed",
		dialogs, spreadOf(each).most.Round(10*time.Millisecond), rate, spreadOf(with), spreadOf(without), len(with)+len(without))
}

// setups places calls and returns how long each caller waited for the 200 OK.
func setups(t *testing.T, sc *scene, first, rate int, lasts time.Duration) (waited []time.Duration) {
	t.Helper()
	res := sc.phones.Run(sc.ctx, stack.Load{Rate: rate, For: lasts, Hold: time.Second,
		Pair: func(i int) (string, string) { return pair(first + i%auditUsers) }})
	noFailures(t, res)
	for _, c := range res.Calls {
		waited = append(waited, c.Answered.Sub(c.Placed))
	}
	return waited
}

// compareAll has the sidecar compare its calls with the proxy's, again and again until ctx
// ends, and returns how long each comparison took.
func compareAll(ctx context.Context, b *stack.Sidecar) (each []time.Duration) {
	for {
		began := time.Now()
		if b.Resync(ctx) != nil || b.WaitReady(ctx, time.Minute) != nil {
			return each
		}
		each = append(each, time.Since(began))
	}
}
