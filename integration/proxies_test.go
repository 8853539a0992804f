package integration

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// twoProxies is a scene with a second proxy, which has phones of its own.
type twoProxies struct {
	*scene
	second *stack.Kamailio
	far    *stack.Phones // of the second proxy
}

func newTwoProxies(t *testing.T) *twoProxies {
	sc := &twoProxies{scene: newScene(t, stack.KamailioOptions{})}
	var err error
	sc.second, err = sc.Proxy(sc.ctx, stack.KamailioOptions{})
	check(t, err)
	sc.far, err = sc.Phones(sc.second.Addr, stack.Domain)
	check(t, err)
	sc.start(t, stack.SidecarConfig{Proxies: []stack.ProxyAddr{{Evapi: sc.second.Evapi, RPC: sc.second.RPC}}})
	return sc
}

// agreeBoth waits until the lamps agree with the phones of both proxies.
func (sc *twoProxies) agreeBoth(t *testing.T, atMost time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	check(t, sc.Wait(sc.ctx, atMost, "lamps that agree with the calls of both proxies", func() error {
		inCalls := sc.phones.InCalls()
		maps.Copy(inCalls, sc.far.InCalls())
		return stack.Compare(sc.recorder.Lit(), inCalls)
	}))
	return time.Since(began)
}

// call places a call and returns it.
func call(t *testing.T, p *stack.Phones, from, to string) *stack.Call {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := p.Call(ctx, from, to)
	check(t, err)
	return c
}

// TestSeveralProxies: users with calls at two proxies are busy while any is up, and clear
// after the last, wherever it was; also when one of the proxies is killed meanwhile.
func TestSeveralProxies(t *testing.T) {
	t.Parallel() // it waits most of the time
	const users = 20
	sc := newTwoProxies(t)
	name := func(what string, i int) string { return fmt.Sprint(what, i) }
	var near, far []string
	for i := range users {
		near, far = append(near, name("near", i)), append(far, name("far", i))
	}
	check(t, sc.phones.Register(sc.ctx, near...))
	check(t, sc.far.Register(sc.ctx, far...))
	var first, second []*stack.Call
	for i := range users {
		first = append(first, call(t, sc.phones, name("both", i), near[i]))
		second = append(second, call(t, sc.far, name("both", i), far[i]))
	}
	sc.agreeBoth(t, 10*time.Second)

	// The first quarter ends its calls at the first proxy.
	for _, c := range first[:users/4] {
		check(t, c.Hangup(sc.ctx))
	}
	sc.agreeBoth(t, 10*time.Second)

	// The first proxy dies with what is left, and its phones with it.
	sc.proxy.Kill()
	sc.phones.Forget()
	time.Sleep(2 * time.Second)
	// Nobody knows yet whether those calls are over.
	for _, c := range first[users/4:] {
		if lit := sc.recorder.Lit(); lit[c.From] == 0 || lit[c.To] == 0 {
			t.Errorf("%s or %s is dark before the proxy could be asked", c.From, c.To)
		}
	}
	check(t, sc.proxy.Restart(sc.ctx))
	restarted := time.Now()
	sc.agreeBoth(t, 30*time.Second)
	cleared := time.Since(restarted)
	check(t, sc.sidecar.WaitReady(sc.ctx, 10*time.Second))
	for _, c := range second {
		check(t, c.Hangup(sc.ctx))
	}
	last := sc.agreeBoth(t, 10*time.Second)
	for user, got := range stack.ByUser(sc.recorder.All()) {
		if err := oneBusyTime(got); err != nil {
			t.Errorf("%s: %v", user, err)
		}
	}
	record.Fault(t, "several-proxies", 1, "%d users in a call at each of two proxies, %d calls ended at the first, which was then killed with the others: never dark; who was in calls there alone was dark %v after its restart, everybody %v after the last BYE",
		users, users/4, cleared.Round(10*time.Millisecond), last.Round(10*time.Millisecond))
}

// oneBusyTime checks that a user lit once and cleared once.
func oneBusyTime(got []stack.Publish) error {
	for i, p := range got {
		kind := p.Kind()
		if (kind == "initial") != (i == 0) || (kind == "remove") != (i == len(got)-1) || p.Status != 200 {
			return fmt.Errorf("PUBLISH %d of %d is a %s, answered %d", i+1, len(got), kind, p.Status)
		}
	}
	return nil
}

// TestOneOfTwoProxiesDies: under 50 calls/s at each of two proxies, one is killed. The
// calls of the other light and clear as ever.
func TestOneOfTwoProxiesDies(t *testing.T) {
	const rate, lasts, dies = 50, 12 * time.Second, 4 * time.Second
	sc := newTwoProxies(t)
	total := rate * int(lasts.Seconds())
	sc.register(t, total)
	far := func(i int) (string, string) { return fmt.Sprint("farcaller", i), fmt.Sprint("farcallee", i) }
	callees := make([]string, total)
	for i := range callees {
		_, callees[i] = far(i)
	}
	check(t, sc.far.Register(sc.ctx, callees...))
	ctx, cancel := context.WithCancel(sc.ctx)
	defer cancel()
	doomed, well := make(chan stack.LoadResult, 1), make(chan stack.LoadResult, 1)
	go func() {
		doomed <- sc.phones.Run(ctx, stack.Load{Rate: rate, For: lasts, Hold: 2 * time.Second, Pair: pair})
	}()
	go func() {
		well <- sc.far.Run(sc.ctx, stack.Load{Rate: rate, For: lasts, Hold: 2 * time.Second, Pair: far})
	}()
	time.Sleep(dies)
	sc.proxy.Kill()
	killed := time.Now()
	cancel()
	died := <-doomed
	sc.phones.Forget()
	if len(died.Calls) < rate {
		t.Errorf("only %d calls were at the proxy that was killed", len(died.Calls))
	}
	time.Sleep(2 * time.Second)
	lit := sc.recorder.Lit()
	check(t, sc.proxy.Restart(sc.ctx))
	restarted := time.Now()
	res := <-well
	noFailures(t, res)
	sc.agreeBoth(t, 30*time.Second-time.Since(restarted))
	var before, after []*stack.Call
	for _, c := range res.Calls {
		if c.Ended.Before(killed) {
			before = append(before, c)
		} else {
			after = append(after, c)
		}
	}
	all := stack.ByUser(sc.recorder.All())
	on1, off1 := latencies(t, before, all)
	on2, off2 := latencies(t, after, all)
	if off2.most > 10*time.Second || on2.most > 10*time.Second {
		t.Errorf("after the other proxy's death: 200 OK to PUBLISH %v, BYE to PUBLISH %v", on2, off2)
	}
	record.Fault(t, "several-proxies", 1, "one killed with %d users lit under %d calls/s at each: users of the other %s after the 200 OK and %s after the BYE, before: %s and %s; none of its %d calls failed",
		len(lit), rate, on2, off2, on1, off1, res.Placed)
}
