package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// TestSidecarKilled: the sidecar is killed -9 at random moments under 300 calls/s, again
// and again, and started again at once. What it had published it takes over from its store:
// after the load everybody is clear at a real presence server, but for the publications of
// requests that were under way, which are gone from its table after their Expires.
// BUSYLAMP_KILLS says how often.
func TestSidecarKilled(t *testing.T) {
	const rate, users, expires = 300, 3000, 20 * time.Second
	kills := 25
	if record.Soak() {
		kills = 1000
	}
	if n, err := strconv.Atoi(os.Getenv("BUSYLAMP_KILLS")); err == nil {
		kills = n
	}
	sc := newScene(t, stack.KamailioOptions{Shared: 256, Settings: shortWait})
	sc.register(t, users)
	server, err := sc.Presence(sc.ctx, stack.KamailioOptions{Shared: 512, Settings: shortWait})
	check(t, err)
	sc.start(t, stack.SidecarConfig{Server: server.Addr, Expires: expires})
	stop := sc.endless(rate, time.Second, users)
	most := 0 // in the server's table
	for i := range kills {
		time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond)
		if i%5 == 4 {
			n, err := server.Publications()
			check(t, err)
			most = max(most, n)
		}
		sc.sidecar.Kill()
		check(t, sc.sidecar.Start())
	}
	check(t, sc.sidecar.WaitReady(sc.ctx, 20*time.Second))
	res := stop()
	noFailures(t, res)
	ended := time.Now()
	if res.Placed < kills*rate/2 || most < rate/2 {
		t.Fatalf("%d calls in %d lives, and %d publications in the server's table at most: too few to prove anything", res.Placed, kills, most)
	}
	time.Sleep(time.Second)
	orphans := sc.clear(t, server, users, expires)
	gone := time.Since(ended)
	m, err := sc.sidecar.Metrics(sc.ctx)
	check(t, err)
	if m["busylamp_state_failing"] != 0 || m["busylamp_state_waiting"] != 0 {
		t.Errorf("the state is not kept: %v waiting", m["busylamp_state_waiting"])
	}
	// Of each call's four requests those of some 10 ms are under way at a kill, or were
	// answered and are not in the store yet. A busy disk takes longer.
	if orphans > kills*20 {
		t.Errorf("%d orphans after %d kills", orphans, kills)
	}
	record.Fault(t, "sidecar-killed", kills, "%d calls at %d/s, none failed; 1 s after the last call %d users were lit by orphans (Expires %v), the table was empty %.0f s after it",
		res.Placed, rate, orphans, expires, gone.Seconds())
}

// endless places calls between users, over and over, until the returned function is called,
// which returns when all have ended.
func (sc *scene) endless(rate int, hold time.Duration, users int) (stop func() stack.LoadResult) {
	const round = 5 * time.Second
	var (
		all    stack.LoadResult
		mu     sync.Mutex
		rounds sync.WaitGroup
		ask    = make(chan struct{})
	)
	place := func(from int) {
		res := sc.phones.Run(sc.ctx, stack.Load{Rate: rate, For: round, Hold: hold,
			Pair: func(i int) (string, string) { return pair((from + i) % users) }})
		mu.Lock()
		defer mu.Unlock()
		all.Placed += res.Placed
		all.Calls = append(all.Calls, make([]*stack.Call, len(res.Calls))...) // their number: an hour's are a gigabyte
		all.Failures = append(all.Failures, res.Failures...)
	}
	rounds.Go(func() {
		next := time.NewTicker(round) // one does not wait for the calls of the one before
		defer next.Stop()
		for from := 0; ; from += int(round.Seconds()) * rate {
			rounds.Go(func() { place(from) })
			select {
			case <-next.C:
			case <-ask:
				return
			}
		}
	})
	return func() stack.LoadResult {
		close(ask)
		rounds.Wait()
		return all
	}
}

// clear checks that the first pairs of users are clear at a real presence server, as who
// looks is shown, but for orphans, and that these leave its table after their lifetime. It
// returns how many users had one.
func (sc *scene) clear(t *testing.T, server *stack.Kamailio, pairs int, expires time.Duration) (orphans int) {
	t.Helper()
	left, err := server.Table()
	check(t, err)
	lamps, err := sc.Lamps(server.Addr, stack.Domain)
	check(t, err)
	users := make([]string, 0, 2*pairs)
	for i := range pairs {
		from, to := pair(i)
		users = append(users, from, to)
	}
	lit, err := lamps.Fetch(sc.ctx, users...)
	check(t, err)
	for user := range lit {
		if left[user] == 0 {
			t.Errorf("%s is lit, and no publication was there after the load", user)
		}
	}
	const sweep = 10 * time.Second // the server looks for expired ones every 5 s
	check(t, sc.Wait(sc.ctx, expires+sweep, "an empty table at the presence server", func() error {
		n, err := server.Publications()
		if err == nil && n > 0 {
			err = fmt.Errorf("%d publications are left", n)
		}
		return err
	}))
	lit, err = lamps.Fetch(sc.ctx, users...)
	check(t, err)
	for user := range lit {
		t.Errorf("%s is lit though the table is empty", user)
	}
	return len(left)
}
