package integration

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// serverFault is a fault of the presence server, or of the way to it, and what to expect.
type serverFault struct {
	row     string
	expires time.Duration // of publications
	orphans bool          // the server may have some that busylamp knows not of, until they expire
	lasts   time.Duration
	fault   func() stack.Fault
	// during is the fault where that is not the middlebox's. It says when it was over.
	during func(t *testing.T, sc *serverScene) (injected int, ended time.Time)

	injected int           // at least
	wrong    int           // lamps that are wrong when it ends, at least
	worst    int           // requests in any second of it but the first four, at most
	steady   bool          // who talks all the while stays lit all the while
	right    bool          // at its end all lamps are, but for changes on their way
	ignored  bool          // no answer counts as one
	pause    time.Duration // nothing is asked for so long, at least once
}

// probing is how many requests a second go to a server that is taken for dead, at most: a
// probe and its repetitions, and those of what was under way when it died.
const probing = 20

// serverLoad is the calls a second that run in every fault, each of which makes four
// requests; and busy is how many a server may get that answers, three times as many as it would
// if all were well.
const (
	serverLoad = 60
	busy       = 12 * serverLoad
)

var serverFaults = []serverFault{
	// (What was published as it went down, and its answer lost, expires before it is back.)
	{row: "server-down", fault: stack.Down, expires: 25 * time.Second, orphans: true, lasts: 30 * time.Second,
		injected: 20, wrong: 40, worst: probing},
	{row: "server-slow", fault: func() stack.Fault { return stack.Slow(5 * time.Second) }, expires: 600 * time.Second, lasts: 15 * time.Second,
		injected: 100, worst: busy, steady: true},
	{row: "server-lossy", fault: func() stack.Fault { return stack.Lossy(0.3, 3) }, expires: 10 * time.Second, orphans: true, lasts: 10 * time.Second,
		injected: 500, worst: busy},
	{row: "server-412", fault: func() stack.Fault { return stack.Forgetful(4) }, expires: 10 * time.Second, orphans: true, lasts: 10 * time.Second,
		injected: 200, wrong: 10, worst: busy},
	{row: "server-423", fault: func() stack.Fault { return stack.Brief(61*time.Second, time.Second) }, expires: 60 * time.Second, lasts: 10 * time.Second,
		injected: 9, worst: busy, steady: true, right: true},
	{row: "server-500", fault: stack.Failing, expires: 60 * time.Second, lasts: 12 * time.Second,
		injected: 32, wrong: 40, worst: probing},
	{row: "server-503", fault: func() stack.Fault { return stack.Overloaded(8 * time.Second) }, expires: 60 * time.Second, lasts: 18 * time.Second,
		injected: 3, wrong: 40, worst: 5, pause: 7 * time.Second},
	{row: "server-bare", fault: stack.Bare, expires: 10 * time.Second, orphans: true, lasts: 10 * time.Second,
		injected: 500, worst: busy, steady: true, right: true},
	{row: "server-cseq", fault: stack.WrongCSeq, expires: 10 * time.Second, orphans: true, lasts: 10 * time.Second,
		injected: 50, wrong: 20, worst: busy, ignored: true},
	{row: "server-garbage", fault: func() stack.Fault { return stack.Garbled(5) }, expires: 10 * time.Second, orphans: true, lasts: 10 * time.Second,
		injected: 50, wrong: 20, worst: busy, ignored: true},
	{row: "server-empty", fault: stack.Well, during: killServer, expires: 600 * time.Second, lasts: 10 * time.Second,
		injected: 2, worst: busy},
}

// TestServerFaults: whatever the presence server does, the requests that it gets are
// bounded, and within 30 s of its recovery the real one shows the truth: who still talks, who
// began to talk and who hung up meanwhile, some of them many times. Once what was orphaned
// has expired, everybody has one publication, and after the last call nobody any. Some 30 s
// each, and 80 for the dead one; two at a time.
func TestServerFaults(t *testing.T) {
	t.Parallel() // it waits most of the time
	for _, f := range serverFaults {
		if f.row == "server-down" && record.Soak() {
			f.lasts, f.expires = 10*time.Minute, 5*time.Minute
		}
		t.Run(f.row, func(t *testing.T) {
			t.Parallel()
			f.run(t)
		})
	}
}

func (f serverFault) run(t *testing.T) {
	sc := newServerScene(t, f.expires)
	const stay, change = 20, 20 // pairs that talk before it
	sc.long(t, 0, stay+change)
	sc.converges(t, 10*time.Second)
	watched := sc.watch(t, stay)

	sc.box.Set(f.fault())
	began := time.Now()
	load := make(chan stack.LoadResult, 1)
	go func() { load <- sc.phones.Run(sc.ctx, sc.load(f.lasts-time.Second)) }()
	time.Sleep(time.Until(began.Add(time.Second))) // for what was answered before
	accepted := sc.accepted(t)
	injected, ended := 0, time.Time{}
	if f.during != nil {
		injected, ended = f.during(t, sc)
	}
	time.Sleep(time.Until(began.Add(f.lasts / 2)))
	for _, c := range sc.phones.Up() {
		if isLong(c, stay, stay+change) {
			check(t, c.Hangup(sc.ctx))
		}
	}
	sc.long(t, stay+change, change)
	res := <-load
	noFailures(t, res)
	if want := int((f.lasts-time.Second).Seconds()*serverLoad*9) / 10; res.Placed < want {
		t.Fatalf("only %d calls were placed, not %d", res.Placed, want)
	}
	time.Sleep(time.Until(began.Add(f.lasts)))
	accepted = sc.accepted(t) - accepted
	dark := watched()
	wrong := sc.wrongNow(t)
	if f.during == nil {
		injected = sc.box.Injected()
		sc.box.Set(stack.Well())
		ended = time.Now()
	}

	sc.converges(t, time.Until(ended.Add(30*time.Second)))
	healed := time.Since(ended)
	mean, worst := sc.settled(began, ended)
	if injected < f.injected || wrong < f.wrong {
		t.Errorf("the fault came %d times and left %d lamps wrong, not %d and %d at least: this shows little", injected, wrong, f.injected, f.wrong)
	}
	if f.right && wrong > slack {
		t.Errorf("%d lamps are wrong though the server can be dealt with", wrong)
	}
	if worst > f.worst {
		t.Errorf("%d requests in one second, not %d at most", worst, f.worst)
	}
	if pause := longestPause(sc.box.Asked(began, began.Add(f.lasts))); pause < f.pause {
		t.Errorf("the longest pause was %v, not %v at least", pause, f.pause)
	}
	if f.ignored && accepted > 0 {
		t.Errorf("%d answers were taken that are none", accepted)
	}
	if f.steady && dark > 0 {
		t.Errorf("%d times somebody who talked all the while was dark", dark)
	}
	if f.orphans {
		time.Sleep(time.Until(ended.Add(f.expires)))
	}
	sc.leavesNothing(t)
	record.Fault(t, f.row, injected, "%d calls in %v; after its first 4 s %.1f requests/s, %d in the worst; %d lamps wrong at its end, all right %.1f s later",
		res.Placed, f.lasts, mean, worst, wrong, healed.Seconds())
}

// serverScene has a real presence server behind a middlebox.
type serverScene struct {
	*scene
	presence *stack.Kamailio
	box      *stack.Middlebox
	lamps    *stack.Lamps
}

// shortCallers are the pairs of the load, and longCallers those of calls that are left up,
// from longFrom on.
const (
	shortCallers, longCallers = 150, 60
	longFrom                  = 1000
)

// newServerScene starts all parts. A test of a fault may take longer than others: its time
// is what go test gives.
func newServerScene(t *testing.T, expires time.Duration) *serverScene {
	t.Helper()
	_, s := newStack(t)
	sc := &serverScene{scene: &scene{Stack: s, ctx: t.Context()}}
	var err error
	sc.presence, err = s.Presence(sc.ctx, stack.KamailioOptions{Shared: 256})
	check(t, err)
	sc.box, err = s.Middlebox(sc.presence.Addr)
	check(t, err)
	sc.lamps, err = s.Lamps(sc.presence.Addr, stack.Domain)
	check(t, err)
	sc.proxy, err = s.Proxy(sc.ctx, stack.KamailioOptions{Shared: 256})
	check(t, err)
	sc.phones, err = s.Phones(sc.proxy.Addr, stack.Domain)
	check(t, err)
	sc.register(t, shortCallers)
	callees := make([]string, longCallers)
	for i := range callees {
		_, callees[i] = pair(longFrom + i)
	}
	check(t, sc.phones.Register(sc.ctx, callees...))
	sc.sidecar, err = s.Sidecar(sc.ctx, stack.SidecarConfig{Evapi: sc.proxy.Evapi, RPC: sc.proxy.RPC, Server: sc.box.Addr, Expires: expires})
	check(t, err)
	check(t, sc.sidecar.WaitReady(sc.ctx, 20*time.Second))
	return sc
}

// users are all whose lamps are looked at.
func (sc *serverScene) users() (all []string) {
	for i := range shortCallers + longCallers {
		if i >= shortCallers {
			i += longFrom - shortCallers
		}
		from, to := pair(i)
		all = append(all, from, to)
	}
	return all
}

// load is short calls of users who each have many.
func (sc *serverScene) load(lasts time.Duration) stack.Load {
	return stack.Load{Rate: serverLoad, For: lasts, Hold: 700 * time.Millisecond,
		Pair: func(i int) (string, string) { return pair(i % shortCallers) }}
}

// long places calls that are left up, between pairs from a number on.
func (sc *serverScene) long(t *testing.T, first, n int) {
	t.Helper()
	noFailures(t, sc.phones.Run(sc.ctx, stack.Load{Rate: 100, For: time.Duration(n) * time.Second / 100, Hold: -1,
		Pair: func(i int) (string, string) { return pair(longFrom + first + i) }}))
}

func isLong(c *stack.Call, from, to int) bool {
	for i := from; i < to; i++ {
		if caller, _ := pair(longFrom + i); c.From == caller {
			return true
		}
	}
	return false
}

// shows compares what the presence server shows with the truth.
func (sc *serverScene) shows() error {
	lit, err := sc.lamps.Fetch(sc.ctx, sc.users()...)
	if err != nil {
		return err
	}
	return stack.Compare(lit, sc.phones.InCalls())
}

// converges waits until it shows the truth and returns how long that took.
func (sc *serverScene) converges(t *testing.T, atMost time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	check(t, sc.Wait(sc.ctx, atMost, "a presence server that shows the truth", func() error {
		err := sc.shows()
		if err != nil {
			time.Sleep(200 * time.Millisecond) // each look is 420 requests
		}
		return err
	}))
	return time.Since(began)
}

// wrongNow counts the lamps that do not agree with the phones.
func (sc *serverScene) wrongNow(t *testing.T) int {
	t.Helper()
	lit, err := sc.lamps.Fetch(sc.ctx, sc.users()...)
	check(t, err)
	return wrongOf(lit, sc.phones.InCalls())
}

// watch looks twice a second at the first pairs that talk, until the function that it
// returns is called, which says how often one of them was dark.
func (sc *serverScene) watch(t *testing.T, pairs int) (ended func() (dark int)) {
	t.Helper()
	var users []string
	for i := range pairs {
		from, to := pair(longFrom + i)
		users = append(users, from, to)
	}
	stop, dark := make(chan struct{}), make(chan int, 1)
	go func() {
		n := 0
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				dark <- n
				return
			case <-tick.C:
				// A server that is away shows nothing to anybody.
				if lit, err := sc.lamps.Fetch(sc.ctx, users...); err == nil {
					n += len(users) - len(lit)
				}
			}
		}
	}()
	return func() int { close(stop); return <-dark }
}

// settled returns the requests a second of a fault, but for its first 4 s: so long it takes
// to find a server dead (3 s) and to stop asking.
func (sc *serverScene) settled(began, ended time.Time) (mean float64, worst int) {
	return sc.box.Rate(began.Add(4*time.Second), ended)
}

// accepted returns how many requests busylamp takes for accepted so far.
func (sc *serverScene) accepted(t *testing.T) (n int) {
	t.Helper()
	m, err := sc.sidecar.Metrics(sc.ctx)
	check(t, err)
	for _, kind := range []string{"initial", "refresh", "modify", "remove"} {
		n += m.Published(kind, "accepted")
	}
	return n
}

// longestPause returns the longest pause between moments.
func longestPause(moments []time.Time) (pause time.Duration) {
	for i := 1; i < len(moments); i++ {
		pause = max(pause, moments[i].Sub(moments[i-1]))
	}
	return pause
}

// leavesNothing checks that everybody in a call has one publication and nobody else any, and
// that nothing is left in the server's table after the last call.
func (sc *serverScene) leavesNothing(t *testing.T) {
	t.Helper()
	one := func() error {
		table, err := sc.presence.Table()
		if err != nil {
			return err
		}
		for _, user := range slices.Sorted(maps.Keys(table)) {
			if table[user] > 1 {
				return fmt.Errorf("%s has %d publications", user, table[user])
			}
		}
		return stack.Compare(table, sc.phones.InCalls())
	}
	check(t, sc.Wait(sc.ctx, 5*time.Second, "one publication each", one))
	sc.hangup(t, 200)
	sc.converges(t, 10*time.Second)
	check(t, sc.Wait(sc.ctx, 10*time.Second, "an empty table", func() error {
		n, err := sc.presence.Publications()
		if err == nil && n > 0 {
			err = fmt.Errorf("%d publications are left", n)
		}
		return err
	}))
	check(t, sc.sidecar.WaitReady(sc.ctx, 10*time.Second))
}

// killServer kills the presence server twice under the load. It starts again with nothing.
func killServer(t *testing.T, sc *serverScene) (kills int, back time.Time) {
	for range 2 {
		time.Sleep(3 * time.Second)
		sc.presence.Kill()
		kills++
		time.Sleep(500 * time.Millisecond)
		check(t, sc.presence.Restart(sc.ctx))
	}
	return kills, time.Now()
}
