package integration

import (
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/stack"
)

// TestSidecarRestart: SIGTERM ends the sidecar with exit code 0. With on_stop: withdraw
// it removes what is published, within 5 s; with keep it leaves it.
func TestSidecarRestart(t *testing.T) {
	const calls = 500
	for _, c := range []struct {
		onStop string
		lit    int // after the end
	}{{"withdraw", 0}, {"keep", 2 * calls}} {
		t.Run(c.onStop, func(t *testing.T) {
			sc := newScene(t, stack.KamailioOptions{})
			sc.register(t, calls)
			// The lifetime bounds what a sidecar that did not come back leaves lit.
			sc.start(t, stack.SidecarConfig{OnStop: c.onStop, Expires: 10 * time.Second})
			noFailures(t, sc.phones.Run(sc.ctx, stack.Load{Rate: 200, For: calls * time.Second / 200, Hold: -1, Pair: pair}))
			sc.agrees(t, 10*time.Second)

			code, took, err := sc.sidecar.Terminate(10 * time.Second)
			check(t, err)
			if code != 0 {
				t.Errorf("exit code %d, not 0; the log ends:\n%s", code, sc.sidecar.Tail())
			}
			if took > 5*time.Second {
				t.Errorf("it took %v to end", took)
			}
			if lit := len(sc.recorder.Lit()); lit != c.lit {
				t.Errorf("%d users are lit after the end, not %d", lit, c.lit)
			}
			check(t, sc.sidecar.Start())
			check(t, sc.sidecar.WaitReady(sc.ctx, 20*time.Second))
			back := sc.agrees(t, 10*time.Second)
			time.Sleep(time.Second) // for what is published beside what was kept
			twice := 0
			for _, n := range sc.recorder.Lit() {
				if n > 1 {
					twice++
				}
			}
			sc.hangup(t, 200)
			clear := sc.agrees(t, 15*time.Second)
			t.Logf("%d lit; SIGTERM took %v; after the restart all lamps were right %v after /readyz, %d users were published twice; after the last BYE all clear in %v",
				2*calls, took.Round(time.Millisecond), back.Round(time.Millisecond), twice, clear.Round(time.Millisecond))
		})
	}
}

// TestTwentyThousandDialogs: the sidecar starts while 20,000 calls are up, at a proxy with
// Kamailio's own private memory (which is too small for dlg.list of a quarter of them).
// Then the list is compared again and again, while further calls are set up.
func TestTwentyThousandDialogs(t *testing.T) {
	const calls, rate = 20_000, 800
	// Nobody asks the phones whether they are there: that is 40,000 requests a minute.
	sc := newScene(t, stack.KamailioOptions{Shared: 512, Defines: []string{"PROXY_KEEPALIVE=3600"}})
	sc.register(t, calls+auditUsers)
	noFailures(t, sc.phones.Run(sc.ctx, stack.Load{Rate: rate, For: calls * time.Second / rate, Hold: -1, Pair: pair}))
	dialogs, err := sc.proxy.Dialogs()
	check(t, err)
	if dialogs < calls {
		t.Fatalf("the proxy has %d dialogs, not %d", dialogs, calls)
	}

	began := time.Now()
	sc.start(t, stack.SidecarConfig{})
	ready := time.Since(began)
	sc.agrees(t, time.Minute-ready)
	lit := time.Since(began)
	m, err := sc.sidecar.Metrics(sc.ctx)
	check(t, err)
	if m["busylamp_presentities"] != 2*calls || m["busylamp_calls"] != calls {
		t.Errorf("busylamp counts %v presentities and %v calls", m["busylamp_presentities"], m["busylamp_calls"])
	}
	audits(t, sc, calls, calls)
	sc.agrees(t, 10*time.Second)
	sc.hangup(t, rate)
	clear := sc.agrees(t, 10*time.Second)
	t.Logf("%d dialogs: ready after %v, all %d users lit after %v; resident %.0f MB; all clear %v after the last BYE",
		dialogs, ready.Round(10*time.Millisecond), 2*calls, lit.Round(10*time.Millisecond),
		m["process_resident_memory_bytes"]/1e6, clear.Round(time.Millisecond))
}
