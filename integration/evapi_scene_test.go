package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/stack"
)

// evapiScene is a scene whose sidecar reaches the proxy through relays.
type evapiScene struct {
	*scene
	evapi, rpc *stack.Relay
	talkers    []*stack.Call // are up all the while
	pid        int
}

// Traffic of the faults: talkers talk all the while; the others call each other.
const (
	talkers     = 10
	evapiUsers  = 400
	leavers     = 5
	evapiRate   = 100
	evapiLasts  = 4 * time.Second // a connection that lives for 3 s is made anew at once
	leastPlaced = 300             // calls during a fault, or it has shown nothing
)

func newEvapiScene(t *testing.T) *evapiScene {
	sc := &evapiScene{scene: newScene(t, stack.KamailioOptions{})}
	var err error
	sc.evapi, err = sc.EvapiRelay(sc.proxy.Evapi)
	check(t, err)
	sc.rpc, err = sc.Relay(strings.TrimSuffix(strings.TrimPrefix(sc.proxy.RPC, "http://"), "/RPC"))
	check(t, err)
	sc.register(t, talkers+evapiUsers+2*leavers)
	sc.sidecar, err = sc.Sidecar(sc.ctx, stack.SidecarConfig{Evapi: sc.evapi.Addr, RPC: "http://" + sc.rpc.Addr + "/RPC", Server: sc.recorder.Addr})
	check(t, err)
	check(t, sc.sidecar.WaitReady(sc.ctx, 20*time.Second))
	sc.pid = sc.sidecar.PID()
	up := sc.phones.Run(sc.ctx, stack.Load{Rate: 50, For: talkers * time.Second / 50, Hold: -1, Pair: pair})
	noFailures(t, up)
	sc.talkers = up.Calls
	sc.agrees(t, 10*time.Second)
	return sc
}

// metrics returns the sidecar's, and fails if they cannot be had: the process is dead then.
func (sc *evapiScene) metrics(t *testing.T) stack.Metrics {
	t.Helper()
	m, err := sc.sidecar.Metrics(sc.ctx)
	check(t, err)
	return m
}

// evapiTotal is a counter of what arrived over evapi.
func evapiTotal(m stack.Metrics, what string) int {
	return int(m[fmt.Sprintf(`busylamp_evapi_total{proxy="proxy1",what=%q}`, what)])
}

// resyncs counts the comparisons with the proxies' lists.
func resyncs(m stack.Metrics) int { return int(m[`busylamp_resyncs_total{result="asked"}`]) }

// reconnected waits until a connection after so many is there, and its list has been
// compared.
func (sc *evapiScene) reconnected(t *testing.T, before stack.Metrics, atMost time.Duration) {
	t.Helper()
	check(t, sc.Wait(sc.ctx, atMost, "a new connection to evapi, and a comparison", func() error {
		m, err := sc.sidecar.Metrics(sc.ctx)
		switch {
		case err != nil:
			return err
		case evapiTotal(m, "connects") <= evapiTotal(before, "connects") || m[`busylamp_proxy_connected{proxy="proxy1"}`] != 1:
			return errors.New("not connected")
		case resyncs(m) <= resyncs(before) || m[`busylamp_proxy_in_step{proxy="proxy1"}`] != 1:
			return errors.New("not in step")
		}
		return nil
	}))
}

// settled waits until the lamps are right but for those that change just now.
func (sc *evapiScene) settled(t *testing.T, atMost time.Duration) {
	t.Helper()
	check(t, sc.Wait(sc.ctx, atMost, "lamps that agree with the calls under load", func() error {
		if n := sc.wrong(); n > slack {
			return fmt.Errorf("%d are wrong", n)
		}
		return nil
	}))
}

// underLoad does something while calls begin and end, and checks that no call failed,
// that all lamps are right at the end, and that the process is the same.
func (sc *evapiScene) underLoad(t *testing.T, rate int, lasts time.Duration, f func()) (placed int) {
	t.Helper()
	done := make(chan stack.LoadResult, 1)
	go func() {
		done <- sc.phones.Run(sc.ctx, stack.Load{Rate: rate, For: lasts, Hold: 400 * time.Millisecond,
			Pair: func(i int) (string, string) { return pair(talkers + i%evapiUsers) }})
	}()
	time.Sleep(300 * time.Millisecond)
	f()
	res := <-done
	noFailures(t, res)
	if res.Placed < leastPlaced {
		t.Errorf("only %d calls were placed, not %d", res.Placed, leastPlaced)
	}
	sc.agrees(t, 15*time.Second)
	if _, ended := sc.sidecar.Exited(); ended || sc.sidecar.PID() != sc.pid {
		t.Errorf("the sidecar has ended: %v", sc.Err())
	}
	return res.Placed
}

// neverDark checks that each party of calls that are up was published by one chain of
// requests that began once and has not ended.
func neverDark(t *testing.T, r *stack.Recorder, calls []*stack.Call) {
	t.Helper()
	users := stack.ByUser(r.All())
	for _, c := range calls {
		for _, user := range []string{c.From, c.To} {
			if len(users[user]) == 0 {
				t.Errorf("%s was never published", user)
			}
			for i, p := range users[user] {
				if kind := p.Kind(); (kind == "initial") != (i == 0) || kind == "remove" || !p.OnThePhone() || p.Status != 200 {
					t.Errorf("PUBLISH %d of %s, who talked all the while, is a %s, on the phone %v, answered %d", i+1, user, kind, p.OnThePhone(), p.Status)
					break
				}
			}
		}
	}
}
