package integration

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/store"
	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// many are the publications of TestRestartMany: their records, and when each is due.
type many struct {
	sync.Mutex
	due  map[string]time.Time // refreshes that are ahead, by user
	sent []sent
}

type sent struct {
	user, kind string
	at         time.Time
}

const (
	manyPublications = 200_000
	manyLife         = 600 * time.Second
	// Refreshes are due up to 70 % of a lifetime from now, and the publication lives for
	// another 30 %: what a sidecar leaves that has published all along.
	manyAhead = 420 * time.Second
)

// TestRestartMany: the sidecar starts with 200,000 live publications in its store, while the
// proxy cannot be asked. It has them all within seconds, and while it holds them, nothing
// is sent that is not due, in any second. Then the proxy says that there are no calls: all
// of them are withdrawn.
func TestRestartMany(t *testing.T) {
	const watched = 30 * time.Second
	sc := newScene(t, stack.KamailioOptions{})
	sc.register(t, 1)
	server, err := sc.Scripted(manyLife)
	check(t, err)
	relay, err := sc.Relay(sc.proxy.Evapi)
	check(t, err)
	sc.start(t, stack.SidecarConfig{Evapi: relay.Addr, Server: server.Addr, Expires: manyLife})
	m := &many{due: make(map[string]time.Time)}
	m.fill(t, sc, server)
	server.Script(m.note)
	relay.Cut()

	began := time.Now()
	check(t, sc.sidecar.Start())
	check(t, sc.Wait(sc.ctx, 30*time.Second, "all publications taken over", func() error {
		figures, err := sc.sidecar.Metrics(sc.ctx)
		if n := figures["busylamp_presentities"]; err == nil && n != manyPublications {
			err = fmt.Errorf("%v presentities", n)
		}
		return err
	}))
	ready := time.Since(began)
	time.Sleep(time.Until(began.Add(watched)))
	end := time.Now()
	figures, err := sc.sidecar.Metrics(sc.ctx)
	check(t, err)
	if n := server.Live(); n != manyPublications {
		t.Errorf("%d publications are live, though nobody could say that a call had ended", n)
	}
	all := m.since(began, end)
	due, early := m.judge(t, all, began.Add(ready), end)
	worst := worstSecond(all)
	rate := manyPublications / manyAhead.Seconds()
	if len(all) < due/2 || due < 1000 {
		t.Errorf("%d requests, %d due: too few to prove anything", len(all), due)
	}
	if float64(worst) > 2*rate {
		t.Errorf("%d requests in the worst second, where %.0f are due in each", worst, rate)
	}
	if ready > 10*time.Second {
		t.Errorf("it took %v to take all over", ready)
	}

	relay.Heal()
	healed := time.Now()
	check(t, sc.sidecar.WaitReady(sc.ctx, 30*time.Second))
	asked := time.Since(healed)
	check(t, sc.Wait(sc.ctx, time.Minute, "an empty table at the server", func() error {
		time.Sleep(500 * time.Millisecond) // counting keeps the server from its work
		if n := server.Live(); n > 0 {
			return fmt.Errorf("%d publications", n)
		}
		return nil
	}))
	cleared := time.Since(healed)
	removals := m.since(healed, time.Now())
	record.Fault(t, "restart-200k", 1, "%d publications taken over %.2f s after the start (%.0f MB resident); in %v %d PUBLISH, %d due by then, %d before their time (sentinels), %d in the worst second; the proxy then says that there are no calls: ready %.1f s after it is back, all withdrawn after %.1f s, %d requests in the worst second",
		manyPublications, ready.Seconds(), figures["process_resident_memory_bytes"]/1e6, watched, len(all), due, early, worst, asked.Seconds(), cleared.Seconds(), worstSecond(removals))
}

// fill ends the sidecar, puts the publications into its store, through the store's own
// interface, and into the server's table.
func (m *many) fill(t *testing.T, sc *scene, server *stack.Scripted) {
	t.Helper()
	from, to := pair(0)
	call, err := sc.phones.Call(sc.ctx, from, to) // to learn the publisher's name in the store
	check(t, err)
	check(t, sc.Wait(sc.ctx, 10*time.Second, "a call's lamps", func() error {
		if server.Live() < 2 {
			return fmt.Errorf("%d", server.Live())
		}
		return nil
	}))
	time.Sleep(200 * time.Millisecond)
	sc.sidecar.Kill()
	check(t, call.Hangup(sc.ctx))
	server.Forget()
	s, err := store.Open(filepath.Join(sc.sidecar.State, "publications"), store.Options{Log: slog.New(slog.DiscardHandler)})
	check(t, err)
	records, err := s.Load(context.Background())
	check(t, err)
	if len(records) != 2 {
		t.Fatalf("the store holds %d records, not the call's 2", len(records))
	}
	publisher := records[0].Publisher
	ops := make([]busylamp.StoreOp, 0, 10_000)
	for _, r := range records {
		ops = append(ops, busylamp.StoreOp{Record: r, Delete: true})
	}
	for i := range manyPublications {
		user, tag := fmt.Sprintf("many%d", i), fmt.Sprintf("t%d", i)
		refresh := manyAhead * time.Duration(i) / manyPublications
		r := busylamp.Record{Publisher: publisher, Presentity: busylamp.Presentity("sip:" + user + "@" + stack.Domain), Tag: tag,
			State: busylamp.OnThePhone, Expires: refresh + manyLife*3/10, Refresh: refresh}
		now := time.Now()
		m.due[user] = now.Add(refresh)
		server.Seed(user, tag, now.Add(r.Expires))
		if ops = append(ops, busylamp.StoreOp{Record: r}); len(ops) == cap(ops) {
			check(t, s.Commit(context.Background(), ops))
			ops = ops[:0]
		}
	}
	check(t, s.Commit(context.Background(), ops))
	check(t, s.Close())
}

func (m *many) note(p stack.Publish, kind string) stack.Verdict {
	m.Lock()
	defer m.Unlock()
	m.sent = append(m.sent, sent{p.User, kind, p.At})
	return stack.Verdict{}
}

// since returns what was sent between two moments.
func (m *many) since(from, to time.Time) (out []sent) {
	m.Lock()
	defer m.Unlock()
	for _, s := range m.sent {
		if s.at.After(from) && s.at.Before(to) {
			out = append(out, s)
		}
	}
	return out
}

// judge counts the refreshes that were due by the end, and those that were sent before
// their time: the sentinel's, one every 5 s. Every one that came due since the sidecar was
// ready must have been sent; those that did before are spread over what is left of their
// life.
func (m *many) judge(t *testing.T, all []sent, ready, end time.Time) (due, early int) {
	t.Helper()
	const early5 = 5 * time.Second // the sentinel's own pace
	refreshed := make(map[string]bool, len(all))
	for _, s := range all {
		if s.kind != "refresh" {
			t.Errorf("%s: %s, though nothing is known of the calls", s.user, s.kind)
		}
		if refreshed[s.user] {
			t.Errorf("%s was refreshed twice", s.user)
		}
		refreshed[s.user] = true
		if s.at.Before(m.due[s.user].Add(-time.Second)) { // due to the second
			early++
		}
	}
	if most := int(end.Sub(ready)/early5) + 1; early > most {
		t.Errorf("%d refreshes were sent before their time, more than the %d of the sentinel", early, most)
	}
	missed := 0
	for user, at := range m.due {
		if at.Before(end) {
			due++
		}
		if at.After(ready) && at.Before(end.Add(-10*time.Second)) && !refreshed[user] {
			missed++
		}
	}
	if missed > 0 {
		t.Errorf("%d refreshes that were due are 10 s late or more", missed)
	}
	return due, early
}

// worstSecond returns how many requests there were in the fullest second.
func worstSecond(all []sent) (most int) {
	for first, last := 0, 0; last < len(all); last++ {
		for all[last].at.Sub(all[first].at) >= time.Second {
			first++
		}
		most = max(most, last-first+1)
	}
	return most
}
