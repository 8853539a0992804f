package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/stack"
)

// TestLoad: 500 calls a second for 30 s, all between different users. Everybody lights
// once and clears once; how fast, is logged.
func TestLoad(t *testing.T) {
	const rate, lasts, holds = 500, 30 * time.Second, 2 * time.Second
	total := rate * int(lasts.Seconds())
	sc := newScene(t, stack.KamailioOptions{Shared: 256})
	sc.register(t, total)
	sc.start(t, stack.SidecarConfig{})

	res := sc.phones.Run(sc.ctx, stack.Load{Rate: rate, For: lasts, Hold: holds, Pair: pair})
	noFailures(t, res)
	sc.agrees(t, 10*time.Second)
	lit, dark := latencies(t, res.Calls, stack.ByUser(sc.recorder.All()))
	m, err := sc.sidecar.Metrics(sc.ctx)
	check(t, err)
	requests, repeats := sc.recorder.Count()
	report(t, fmt.Sprintf("%d calls at %d/s, %d PUBLISH, %d repetitions; 200 OK to PUBLISH %v; BYE to PUBLISH %v; busylamp: %.0f us CPU a call",
		res.Placed, rate, requests, repeats, lit, dark, m["process_cpu_seconds_total"]*1e6/float64(res.Placed)))
	if lit.p50 >= time.Second {
		t.Errorf("half of the users lit later than %v", lit.p50)
	}
}

// noFailures checks that every call was answered and ended well.
func noFailures(t *testing.T, res stack.LoadResult) {
	t.Helper()
	for i, f := range res.Failures {
		if i == 5 {
			break
		}
		t.Errorf("%v", f.Err)
	}
	if len(res.Failures) > 0 || len(res.Calls) != res.Placed {
		t.Fatalf("of %d calls %d were answered and %d failed", res.Placed, len(res.Calls), len(res.Failures))
	}
}

// spread is how times are distributed.
type spread struct{ p50, p99, most time.Duration }

func (s spread) String() string {
	r := func(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
	return fmt.Sprintf("p50 %v p99 %v max %v", r(s.p50), r(s.p99), r(s.most))
}

func spreadOf(d []time.Duration) spread {
	if len(d) == 0 {
		return spread{}
	}
	slices.Sort(d)
	return spread{d[len(d)/2], d[len(d)*99/100], d[len(d)-1]}
}

// latencies checks that each user of a call got an initial PUBLISH first and a removal
// last, and returns how long these took from the call's 200 OK and BYE.
func latencies(t *testing.T, calls []*stack.Call, users map[string][]stack.Publish) (lit, dark spread) {
	t.Helper()
	var on, off []time.Duration
	wrong := 0
	for _, c := range calls {
		for _, user := range []string{c.From, c.To} {
			got := users[user]
			if err := twoPublishes(got); err != nil {
				if wrong++; wrong <= 5 {
					t.Errorf("%s: %v", user, err)
				}
				continue
			}
			on = append(on, got[0].At.Sub(c.Answered))
			off = append(off, got[1].At.Sub(c.Ended))
		}
	}
	if wrong > 5 {
		t.Errorf("%d users in all were not published as they should", wrong)
	}
	return spreadOf(on), spreadOf(off)
}

// report logs a figure and keeps it: one line for each run, in busylamp-results.txt of
// BUSYLAMP_RESULTS or else of the system's folder for temporary files.
func report(t *testing.T, line string) {
	t.Helper()
	t.Log(line)
	dir := os.Getenv("BUSYLAMP_RESULTS")
	if dir == "" {
		dir = os.TempDir()
	}
	name := filepath.Join(dir, "busylamp-results.txt")
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	check(t, err)
	defer f.Close()
	_, err = fmt.Fprintf(f, "%s %s: %s\n", time.Now().Format(time.RFC3339), t.Name(), line)
	check(t, err)
}
