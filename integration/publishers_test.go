package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// TestDeadServerUnderLoad: the presence server is dead for 60 s under 100 calls/s. It is
// probed and not hammered, and soon after it is back it shows what is true.
func TestDeadServerUnderLoad(t *testing.T) {
	const rate, users, before, dead, after = 100, 1700, 5 * time.Second, 60 * time.Second, 15 * time.Second
	sc := newScene(t, stack.KamailioOptions{Shared: 256})
	sc.register(t, users)
	sc.start(t, stack.SidecarConfig{})
	done := make(chan stack.LoadResult, 1)
	go func() {
		done <- sc.phones.Run(sc.ctx, stack.Load{Rate: rate, For: before + dead + after, Hold: 5 * time.Second,
			Pair: func(i int) (string, string) { return pair(i % users) }})
	}()
	time.Sleep(before)
	if n := sc.wrong(); n > slack {
		t.Fatalf("%d lamps wrong before", n)
	}
	sc.recorder.Die()
	died := time.Now()
	time.Sleep(dead)
	stale := sc.wrong()
	if stale < 500 {
		t.Fatalf("only %d lamps are wrong after %v, so this test proves little", stale, dead)
	}
	unheard := sc.recorder.Revive()
	revived := time.Now()
	check(t, sc.Wait(sc.ctx, 30*time.Second, "lamps that agree with the calls under load", func() error {
		if n := sc.wrong(); n > slack {
			return fmt.Errorf("%d are wrong", n)
		}
		return nil
	}))
	converged := time.Since(revived)

	first, worst := 0, 0
	perSecond := map[int]int{}
	for _, at := range unheard {
		sec := int(at.Sub(died) / time.Second)
		if perSecond[sec]++; sec < 4 {
			first++
		} else {
			worst = max(worst, perSecond[sec])
		}
	}
	report(t, fmt.Sprintf("60 s without a server under %d calls/s: %d packets in the first 4 s, then %.2f a second, %d in the worst; %d lamps were wrong then, and right %v after it was back",
		rate, first, float64(len(unheard)-first)/(dead.Seconds()-4), worst, stale, converged.Round(time.Millisecond)))
	if worst > probing {
		t.Errorf("%d packets in one second into the silence", worst)
	}
	res := <-done
	noFailures(t, res)
	sc.agrees(t, 10*time.Second)
	record.Fault(t, "server-down", 1, "%v under %d calls/s; after its first 4 s %.2f requests/s, %d in the worst; %d lamps wrong at its end, right %.1f s later",
		dead, rate, float64(len(unheard)-first)/(dead.Seconds()-4), worst, stale, converged.Seconds())
}

// slack is how many lamps may be wrong at any moment of 100 calls/s: changes on their way.
const slack = 12

// wrong counts the lamps that do not agree with the phones.
func (sc *scene) wrong() int { return wrongOf(sc.recorder.Lit(), sc.phones.InCalls()) }

func wrongOf(lit, inCalls map[string]int) (n int) {
	for user := range lit {
		if inCalls[user] == 0 {
			n++
		}
	}
	for user := range inCalls {
		if lit[user] == 0 {
			n++
		}
	}
	return n
}

// TestTwoPublishers: one that never answers takes nothing from the other. The two cases
// alternate, so that what else the machine does falls on both.
func TestTwoPublishers(t *testing.T) {
	const rate, users, lasts, runs = 100, 1000, 8 * time.Second, 3
	sc := newScene(t, stack.KamailioOptions{Shared: 256})
	sc.register(t, users)
	other, err := sc.Recorder()
	check(t, err)
	sc.start(t, stack.SidecarConfig{Others: []string{other.Addr}})
	well, holed := make([]spread, 0, runs), make([]spread, 0, runs)
	for i := range 2 * runs {
		into := &well
		if i%2 == 1 {
			into = &holed
			other.Die()
		}
		sc.recorder.Reset()
		res := sc.phones.Run(sc.ctx, stack.Load{Rate: rate, For: lasts, Hold: time.Second,
			Pair: func(i int) (string, string) { return pair(i % users) }})
		noFailures(t, res)
		sc.agrees(t, 10*time.Second)
		lit, _ := latencies(t, res.Calls, stack.ByUser(sc.recorder.All()))
		*into = append(*into, lit)
		if i%2 == 1 {
			if len(other.Revive()) == 0 {
				t.Fatal("the other publisher sent nothing, so this test proves nothing")
			}
			check(t, sc.Wait(sc.ctx, 40*time.Second, "the other server agrees", func() error {
				return stack.Compare(other.Lit(), sc.phones.InCalls())
			}))
		}
	}
	report(t, fmt.Sprintf("200 OK to PUBLISH with the other publisher well: %v; with it in a black hole: %v", well, holed))
	median := func(s []spread) time.Duration {
		slices.SortFunc(s, func(a, b spread) int { return int(a.p99 - b.p99) })
		return s[len(s)/2].p99
	}
	// Were they to wait for each other, it would be seconds.
	if a, b := median(well), median(holed); b > a+500*time.Millisecond {
		t.Errorf("p99 %v with the other publisher well, and %v with it in a black hole", a, b)
	}
}
