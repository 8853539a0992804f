package integration

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// TestSoak: 300 calls/s for a minute (an hour in make soak), beside calls that are held and
// refreshed all the while. Memory and goroutines are in the last third what they were in
// the first, no call fails, and the real presence server shows the truth at the end.
// BUSYLAMP_SOAK_TIME=20m makes the hour another time.
func TestSoak(t *testing.T) {
	const rate, users, long, expires = 300, 3000, 100, 30 * time.Second
	lasts, warm, every := time.Minute, 15*time.Second, 250*time.Millisecond
	if record.Soak() {
		lasts, warm, every = time.Hour, 5*time.Minute, 2*time.Second
		if d, err := time.ParseDuration(os.Getenv("BUSYLAMP_SOAK_TIME")); err == nil {
			lasts = d
		}
	}
	sc := newScene(t, stack.KamailioOptions{Shared: 256, Settings: shortWait})
	sc.register(t, users+long)
	server, err := sc.Presence(sc.ctx, stack.KamailioOptions{Shared: 512, Settings: shortWait})
	check(t, err)
	sc.start(t, stack.SidecarConfig{Server: server.Addr, Expires: expires})
	held := sc.phones.Run(sc.ctx, stack.Load{Rate: 100, For: long * time.Second / 100, Hold: -1,
		Pair: func(i int) (string, string) { return pair(users + i) }})
	noFailures(t, held)
	stop := sc.endless(rate, 2*time.Second, users)
	began := time.Now()
	time.Sleep(warm)
	var taken []stack.Metrics
	for time.Since(began) < warm+lasts {
		m, err := sc.sidecar.Metrics(sc.ctx)
		check(t, err)
		taken = append(taken, m)
		time.Sleep(every)
	}
	res := stop()
	noFailures(t, res)
	if want := int(lasts.Seconds()) * rate; res.Placed < want || len(taken) < 60 {
		t.Errorf("%d calls and %d looks: too few to prove anything (want %d and 60)", res.Placed, len(taken), want)
	}

	goroutines := thirds(taken, "go_goroutines", median)
	resident := thirds(taken, "process_resident_memory_bytes", median)
	heap := thirds(taken, "go_memstats_heap_alloc_bytes", slices.Min) // what a collection leaves
	goroutines.flat(t, 1.2, 30)
	resident.flat(t, 1.1, 8e6)
	heap.flat(t, 1.1, 3e6)
	refreshed := taken[len(taken)-1].Published("refresh", "accepted")
	if refreshed < long {
		t.Errorf("%d refreshes, of %d calls that lasted: too few to prove anything", refreshed, long)
	}

	lit := sc.holds(t, server, held.Calls)
	sc.hangup(t, 100)
	time.Sleep(time.Second)
	if orphans := sc.clear(t, server, users+long, 0); orphans > 0 {
		t.Errorf("%d users were still lit 1 s after the last call", orphans)
	}
	record.Fault(t, "soak", res.Placed, "%d calls at %d/s in %v, none failed, %d refreshes; from the first third to the last: %v; %v; %v; the %d users of the calls that lasted lit, and clear after them",
		res.Placed, rate, lasts+warm, refreshed, goroutines, resident, heap, lit)
}

// holds checks that a real presence server shows the users of calls on the phone, each by
// one publication, and returns how many they are.
func (sc *scene) holds(t *testing.T, server *stack.Kamailio, calls []*stack.Call) int {
	t.Helper()
	var users []string
	for _, c := range calls {
		users = append(users, c.From, c.To)
	}
	lamps, err := sc.Lamps(server.Addr, stack.Domain)
	check(t, err)
	lit, err := lamps.Fetch(sc.ctx, users...)
	check(t, err)
	table, err := server.Table()
	check(t, err)
	for _, user := range users {
		if lit[user] != 1 || table[user] != 1 {
			t.Errorf("%s is in a call, shown %d times, and has %d publications", user, lit[user], table[user])
		}
	}
	return len(lit)
}

// change is a figure in the first third of a run and in the last.
type change struct {
	name        string
	first, last float64
}

func (c change) String() string {
	if c.first > 1e6 {
		return fmt.Sprintf("%s %.1f to %.1f MB", c.name, c.first/1e6, c.last/1e6)
	}
	return fmt.Sprintf("%s %.0f to %.0f", c.name, c.first, c.last)
}

// thirds takes a figure of the first and of the last third of some metrics.
func thirds(all []stack.Metrics, name string, of func([]float64) float64) change {
	values := make([]float64, len(all))
	for i, m := range all {
		values[i] = m[name]
	}
	third := max(1, len(values)/3)
	return change{name, of(values[:third]), of(values[len(values)-third:])}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// flat checks that a figure has not grown, but for a factor and a little more.
func (c change) flat(t *testing.T, factor, more float64) {
	t.Helper()
	if c.first <= 0 || c.last > c.first*factor+more {
		t.Errorf("%v: it grows", c)
	}
}
