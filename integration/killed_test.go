package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/stack"
)

// TestSidecarKilled: the sidecar is killed -9 at random moments under load, again and
// again. What it had published it takes over from its store: at the end everybody is clear,
// but for the publications of requests that were under way, which die within their Expires.
// BUSYLAMP_KILLS says how often.
func TestSidecarKilled(t *testing.T) {
	const rate, users, expires = 100, 2000, 20 * time.Second
	kills := 25
	if n, err := strconv.Atoi(os.Getenv("BUSYLAMP_KILLS")); err == nil {
		kills = n
	}
	sc := newScene(t, stack.KamailioOptions{Shared: 256})
	sc.register(t, users)
	sc.start(t, stack.SidecarConfig{Expires: expires})
	stop := make(chan struct{})
	done := make(chan stack.LoadResult, 1)
	go func() {
		var all stack.LoadResult
		for round := 0; ; round++ {
			select {
			case <-stop:
				done <- all
				return
			default:
			}
			res := sc.phones.Run(sc.ctx, stack.Load{Rate: rate, For: 5 * time.Second, Hold: time.Second,
				Pair: func(i int) (string, string) { return pair((round*5*rate + i) % users) }})
			all.Placed += res.Placed
			all.Calls = append(all.Calls, res.Calls...)
			all.Failures = append(all.Failures, res.Failures...)
		}
	}()
	for range kills {
		time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond)
		sc.sidecar.Kill()
		check(t, sc.sidecar.Start())
	}
	check(t, sc.sidecar.WaitReady(sc.ctx, 20*time.Second))
	close(stop)
	res := <-done
	noFailures(t, res)
	ended := time.Now()
	if res.Placed < kills*rate/4 {
		t.Fatalf("only %d calls in %d lives, so this test proves nothing", res.Placed, kills)
	}
	time.Sleep(time.Second)
	left := len(sc.recorder.Lit())
	sc.agrees(t, expires)
	report(t, fmt.Sprintf("killed %d times under %d calls/s (%d calls): %d users were lit by orphans 1 s after the last call, the last for %v",
		kills, rate, res.Placed, left, time.Since(ended).Round(100*time.Millisecond)))
	// One request per user can be under way at a kill, and at 100 calls/s few are.
	if left > kills*20 {
		t.Errorf("%d users were left lit after %d kills", left, kills)
	}
	m, err := sc.sidecar.Metrics(sc.ctx)
	check(t, err)
	if m["busylamp_state_failing"] != 0 || m["busylamp_state_waiting"] != 0 {
		t.Errorf("the state is not kept: %v waiting", m["busylamp_state_waiting"])
	}
}
