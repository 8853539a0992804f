package integration

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// TestManyDialogs: a proxy with 100,000 calls, whose callers two presence servers are told
// of: 200,000 publications. The sidecar compares itself with the proxy while others call,
// is killed, and takes over what is published.
func TestManyDialogs(t *testing.T) {
	const held = 100_000
	ctx, s := newStack(t)
	sc := &scene{Stack: s, ctx: ctx}
	dump := filepath.Join(s.Dir, "dump")
	// (The proxy runs as we do: no other user has to reach the directory.)
	o := stack.KamailioOptions{Shared: 1024, Defines: []string{fmt.Sprintf("BUSYLAMP_DUMP=%q", dump)}}
	check(t, s.Preload(&o, held))
	var err error
	sc.proxy, err = s.Proxy(ctx, o)
	check(t, err)
	sc.recorder, err = s.Recorder()
	check(t, err)
	other, err := s.Recorder()
	check(t, err)
	sc.phones, err = s.Phones(sc.proxy.Addr, stack.Domain)
	check(t, err)
	sc.register(t, auditUsers)
	if n, err := sc.proxy.Dialogs(); err != nil || n != held {
		t.Fatalf("the proxy has %d dialogs, not %d: %v", n, held, err)
	}
	began := time.Now()
	sc.start(t, stack.SidecarConfig{Others: []string{other.Addr}, Dump: dump, Expires: time.Hour, Audit: time.Hour})
	ready := time.Since(began)
	all := func() error {
		for _, r := range []*stack.Recorder{sc.recorder, other} {
			if n := len(r.Lit()); n != held {
				return fmt.Errorf("%d of %d users are lit", n, held)
			}
		}
		return nil
	}
	check(t, sc.Wait(ctx, time.Minute, "everybody's lamp at both servers", all))
	t.Logf("%d dialogs: ready after %v, %d publications after %v", held, ready.Round(10*time.Millisecond), 2*held, time.Since(began).Round(100*time.Millisecond))

	t.Run("audit", func(t *testing.T) { audits(t, sc, held, 0) })
	t.Run("restart", func(t *testing.T) {
		time.Sleep(2 * time.Second) // the last calls' removals
		check(t, all())
		sc.takesOver(t, other, 2*held)
		check(t, all())
	})
}

// takesOver kills the sidecar and starts it again. It is ready in seconds, and sends
// nothing that is not due.
func (sc *scene) takesOver(t *testing.T, other *stack.Recorder, publications int) {
	const watch = 20 * time.Second
	sc.sidecar.Kill()
	sc.recorder.Reset()
	other.Reset()
	began := time.Now()
	check(t, sc.sidecar.Start())
	check(t, sc.sidecar.WaitReady(sc.ctx, 30*time.Second))
	ready := time.Since(began)
	time.Sleep(time.Until(began.Add(watch)))
	kinds, perSecond := map[string]int{}, map[int]int{}
	for _, p := range slices.Concat(sc.recorder.All(), other.All()) {
		kinds[p.Kind()]++
		perSecond[int(p.At.Sub(began)/time.Second)]++
	}
	worst := 0
	for _, n := range perSecond {
		worst = max(worst, n)
	}
	record.Fault(t, "restart-200k", 1, "%d publications, %d calls: ready after %v; PUBLISH in the first %v: %v, %d in the worst second",
		publications, publications/2, ready.Round(10*time.Millisecond), watch, kinds, worst)
	// Those of an hour are refreshed after 36 minutes and later. What is sent is the sentinels:
	// one in 5 s at each server.
	if n := kinds["refresh"] + kinds["modify"]; n > 2*int(watch/(5*time.Second)+1) || kinds["initial"]+kinds["remove"] > 0 || worst > 10 {
		t.Errorf("sent in the first %v: %v, %d in the worst second", watch, kinds, worst)
	}
}
