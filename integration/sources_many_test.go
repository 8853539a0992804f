package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/stack"
)

// TestTwentyThousandWatched: a source subscribes to 20,000 presentities, and never to more in a
// second than it may; then it hears of the changes among them. What it takes is logged.
func TestTwentyThousandWatched(t *testing.T) {
	t.Parallel()
	const watched, limit, busy = 20_000, 1000, 200
	sc, shown := newMany(t, watched, limit)
	began := time.Now()
	check(t, sc.Wait(sc.ctx, 2*time.Minute, "all subscriptions", func() error {
		if live := shown.Live(); live < watched {
			return fmt.Errorf("%d of %d", live, watched)
		}
		return nil
	}))
	took := time.Since(began)
	sc.sourcesStand(t, 20*time.Second, map[string]int{"many": watched})
	most, span := shown.Peak()
	// Their sender may be held up for a moment, and then send what is due. On the whole nothing
	// can be gained by that.
	if most > limit*5/4 || span < (watched-limit)/limit*time.Second {
		t.Errorf("%d SUBSCRIBEs in %v, %d of them in one second: more than %d a second", watched, span, most, limit)
	}

	for i := range busy {
		user := fmt.Sprintf("many%d", i*(watched/busy))
		shown.Set(user, stack.PIDF("sip:"+user+"@"+stack.Domain, "t1", "", "on-the-phone"))
	}
	changed := time.Now()
	check(t, sc.Wait(sc.ctx, 20*time.Second, "what is published of the changes", func() error {
		if lit := len(sc.recorder.Lit()); lit != busy {
			return fmt.Errorf("%d of %d are lit", lit, busy)
		}
		return nil
	}))
	lit := time.Since(changed)
	counts := shown.Counts()
	if counts.Initial != watched || counts.Lost > 0 {
		t.Errorf("%+v; not %d subscriptions, and none lost", counts, watched)
	}
	now, err := sc.sidecar.Sources(sc.ctx)
	check(t, err)
	core, coreCPU, err := stack.Usage(sc.sidecar.PID())
	check(t, err)
	plugin, pluginCPU, err := stack.Usage(now["many"].PID)
	check(t, err)
	report(t, fmt.Sprintf("%d presentities by one source at %d subscriptions/s: all after %.1f s, %d in the worst second, %d repetitions of SUBSCRIBE; "+
		"%d changes at once shown after %v; resident: busylamp %d MB, the plugin %d MB; CPU: %.1f s and %.1f s",
		watched, limit, took.Seconds(), most, counts.Repeats, busy, lit.Round(time.Millisecond), core>>20, plugin>>20, coreCPU.Seconds(), pluginCPU.Seconds()))
}

// TestSubscriptionsPerSecond: unless it is told otherwise, a source begins 15 subscriptions a
// second, evenly.
func TestSubscriptionsPerSecond(t *testing.T) {
	t.Parallel()
	const watched, limit, lasts = 500, 15, 10 * time.Second
	sc, shown := newMany(t, watched, 0)
	check(t, sc.Wait(sc.ctx, 20*time.Second, "the first subscription", func() error {
		if shown.Live() == 0 {
			return fmt.Errorf("none")
		}
		return nil
	}))
	time.Sleep(lasts)
	n := shown.Counts().Initial
	most, span := shown.Peak()
	report(t, fmt.Sprintf("%d SUBSCRIBEs in %.2f s, %d in the worst second, at the default of %d", n, span.Seconds(), most, limit))
	if top := limit * (int(span/time.Second) + 2); n > top || n < limit*int(lasts/time.Second)/2 {
		t.Errorf("%d in %v, at most %d should come", n, span, top)
	}
	if most > limit*5/4 {
		t.Errorf("%d in one second, more than %d", most, limit)
	}
}

// newMany starts a sidecar with one source that watches users many0, many1... at a scripted
// notifier. Of limit 0 nothing is configured.
func newMany(t *testing.T, watched, limit int) (*scene, *stack.Notifier) {
	t.Helper()
	sc := newScene(t, stack.KamailioOptions{})
	havePlugins(t, sc.Stack)
	shown, err := sc.Notifier(0)
	check(t, err)
	_, uris := members("many", watched)
	file := filepath.Join(sc.Dir, "watch")
	check(t, os.WriteFile(file, []byte(strings.Join(uris, "\n")+"\n"), 0o600))
	source := sipSource("many", shown.Addr, "presence")
	source.PerSecond = limit
	sc.start(t, stack.SidecarConfig{WatchFile: file, Env: ownTemp(sc.Stack), Sources: []stack.SourceConfig{source}})
	return sc, shown
}
