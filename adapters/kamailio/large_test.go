package kamailio

import (
	"context"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

// TestLarge asks a proxy with 20,000 calls, of long Call-IDs, in Kamailio's default
// private memory (8 MB), by both transports and by a file.
func TestLarge(t *testing.T) {
	if !demanded() {
		t.Skip("takes most of a minute: set BUSYLAMP_E2E=1 to run it")
	}
	const n = 20000
	p := newProxy(t, "-m", "512") // shared memory: the calls themselves need 100 MB of it
	p.phones(t)
	began := time.Now()
	p.calls(t, n, 1500, 5*time.Minute, "-cid_str", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6-%u-%p@pc33.atlanta.example.com")
	time.Sleep(n * time.Second / 1500)
	http := NewTruth(p.rpc(t, p.http()))
	var l busylamp.Listing
	eventually(t, 60*time.Second, "all calls are up", func() bool {
		l = listLarge(t, p, http)
		up := 0
		for _, d := range l.Live {
			if d.Stage == busylamp.Confirmed {
				up++
			}
		}
		return up == n
	}, p.tail)
	t.Logf("%d calls are up after %v", n, time.Since(began))

	for name, truth := range map[string]*Truth{"http": http, "fifo": NewTruth(p.rpc(t, "fifo:"+p.fifo)), "dump": p.byFile(t)} {
		measure(t, p, name+" List", func() {
			if l = listLarge(t, p, truth); len(l.Live) != n {
				t.Fatalf("%d dialogs are listed", len(l.Live))
			}
		})
		seen := map[busylamp.DialogID]bool{}
		measure(t, p, name+" Details", func() {
			err := truth.Details(within(t, 45*time.Second), l.Live, func(events []busylamp.CallEvent) {
				for _, ev := range events {
					if ev.Caller == "" || ev.Callee == "" || ev.CallID == "" || ev.Stage != busylamp.Confirmed {
						t.Errorf("a detail without its fields: %+v", ev)
					}
					seen[ev.Dialog] = true
				}
			})
			if err != nil || len(seen) != n {
				t.Fatalf("%s: %d dialogs are detailed, %v\n%s", name, len(seen), err, p.tail())
			}
		})
	}
}

func listLarge(t testing.TB, p *proxy, truth *Truth) busylamp.Listing {
	t.Helper()
	l, err := truth.List(within(t, 45*time.Second))
	if err != nil {
		t.Fatalf("%v\n%s", err, p.tail())
	}
	return l
}

// measure logs what something takes, and how long others wait for the proxy's TCP
// processes meanwhile.
func measure(t testing.TB, p *proxy, what string, f func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	worst := make(chan time.Duration)
	go func() {
		most, other := time.Duration(0), NewTruth(p.rpc(t, p.http()))
		for ctx.Err() == nil {
			began := time.Now()
			if _, err := other.epoch(ctx); err == nil {
				most = max(most, time.Since(began))
			}
			time.Sleep(20 * time.Millisecond)
		}
		worst <- most
	}()
	began, cpu := time.Now(), p.cpu(t)
	f()
	took, cost := time.Since(began), p.cpu(t)-cpu
	cancel()
	t.Logf("%-12s %8v, Kamailio's CPU %6v, others wait %v at most", what, took.Round(time.Millisecond), cost, (<-worst).Round(time.Millisecond))
}
