package integration

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// moment is when, in the exchange of one PUBLISH, the sidecar is killed.
type moment struct {
	name  string
	loses func(*stack.Verdict) // what else befalls the request
	after time.Duration        // its answer
	known bool                 // all that the sidecar has learned is in its store
}

var moments = []moment{
	{name: "request lost", loses: func(v *stack.Verdict) { v.Ignore = true }},
	{name: "answer lost", loses: func(v *stack.Verdict) { v.Mute = true }},
	{name: "0 ms after the answer"},
	{name: "1 ms", after: time.Millisecond},
	{name: "2 ms", after: 2 * time.Millisecond},
	{name: "5 ms", after: 5 * time.Millisecond},
	{name: "10 ms", after: 10 * time.Millisecond},
	{name: "20 ms", after: 20 * time.Millisecond},
	{name: "300 ms", after: 300 * time.Millisecond, known: true},
}

// victim is a sidecar of its own, with a presence server of its own, that is killed at one
// moment of every step.
type victim struct {
	moment
	server  *stack.Scripted
	sidecar *stack.Sidecar
	killed  chan time.Time
}

// step is a request of one kind at which every victim is killed, and what becomes of the
// call meanwhile. The victims see the same calls.
type step struct {
	name   string
	kind   string        // of the request that kills
	answer stack.Verdict // that its server gives it; the zero one is a 200
	ring   time.Duration
	ends   string // "", or when the call ends: "before" the request, to provoke it; "dead", while the sidecars are
	again  bool   // a new call begins while they are
	forget bool   // the server loses its table before
	during bool   // the call ends while the answer is on its way
}

const challenge = "WWW-Authenticate: Digest realm=\"steps\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"\r\n"

var steps = []step{
	{name: "initial, the call stays", kind: "initial"},
	{name: "initial, the call ends", kind: "initial", ends: "dead"},
	{name: "initial, the call ends before its answer", kind: "initial", answer: stack.Verdict{Delay: 400 * time.Millisecond}, during: true, ends: "dead"},
	{name: "refresh, the call stays", kind: "refresh"},
	{name: "refresh, the call ends", kind: "refresh", ends: "dead"},
	{name: "modify, the call stays", kind: "modify", ring: 700 * time.Millisecond},
	{name: "modify, the call ends", kind: "modify", ring: 700 * time.Millisecond, ends: "dead"},
	{name: "remove", kind: "remove", ends: "before"},
	{name: "remove, a call begins", kind: "remove", ends: "before", again: true},
	{name: "401, the call stays", kind: "initial", answer: stack.Verdict{Status: "401 Unauthorized", Extra: challenge}},
	{name: "401, the call ends", kind: "initial", answer: stack.Verdict{Status: "401 Unauthorized", Extra: challenge}, ends: "dead"},
	{name: "423, the call stays", kind: "initial", answer: stack.Verdict{Status: "423 Interval Too Brief", Extra: "Min-Expires: 11\r\n"}},
	{name: "412, the call stays", kind: "refresh", forget: true},
	{name: "412, the call ends", kind: "refresh", forget: true, ends: "dead"},
}

// granted is the lifetime that the servers grant.
const granted = 5 * time.Second

// TestSidecarKilledAtEveryStep: the sidecar is killed -9 at every step of a publication: as
// a request of each kind leaves, as its answer comes, and while it writes down what it has
// learned; and the call goes on, ends, or begins meanwhile. After the restart nobody who is
// in a call is dark, nobody else is lit beyond one lifetime, and no second publication of a
// user lives for longer than that. Where the store knows all, there is none, and what the
// call's end leaves behind is removed.
func TestSidecarKilledAtEveryStep(t *testing.T) {
	t.Parallel() // it waits most of the time
	sc := newScene(t, stack.KamailioOptions{Defines: []string{"BUSYLAMP_EARLY"},
		Settings: fmt.Sprintf("modparam(\"evapi\", \"max_clients\", %d)", 2*len(moments))})
	victims := make([]*victim, len(moments))
	for i, m := range moments {
		v := &victim{moment: m, killed: make(chan time.Time, 1)}
		var err error
		v.server, err = sc.Scripted(granted)
		check(t, err)
		v.sidecar, err = sc.Sidecar(sc.ctx, stack.SidecarConfig{Evapi: sc.proxy.Evapi, RPC: sc.proxy.RPC,
			Server: v.server.Addr, Expires: 10 * time.Second, Sides: "callee", Early: "publish", Username: "steps"})
		check(t, err)
		victims[i] = v
	}
	ready := func() {
		t.Helper()
		for _, v := range victims {
			check(t, v.sidecar.WaitReady(sc.ctx, 20*time.Second))
		}
	}
	ready()
	k := &killer{scene: sc, victims: victims, dark: map[string]time.Time{}}
	for i, s := range steps {
		k.run(t, s, fmt.Sprintf("step%d", i))
		if t.Failed() {
			t.FailNow()
		}
		ready()
	}
	sc.hangup(t, 100)
	k.atTheEnd(t)
	if k.knownEnded == 0 || k.removed < k.knownEnded/2 { // a machine as slow as a lifetime is long makes some expire
		t.Errorf("%d of %d publications that the store knew of were removed after the call's end; the others expired", k.removed, k.knownEnded)
	}
	record.Fault(t, "sidecar-killed-steps", k.kills, "%d steps at %d moments each; lit again at most %.1f s after the restart; %d ended calls were clear when it was ready, %d by the end of their %v; %d users had a second publication, for %.1f s at most",
		len(steps), len(moments), k.slowest.Seconds(), k.atOnce, k.later, granted, k.seconds, k.longest.Seconds())
}

// killer runs steps.
type killer struct {
	*scene
	victims []*victim
	dark    map[string]time.Time // users that are in no call, and when the sidecars had restarted

	kills, atOnce, later, seconds int
	removed, knownEnded           int
	slowest, longest              time.Duration
}

// run has every victim killed at its moment of a step, and restarted.
func (k *killer) run(t *testing.T, s step, user string) {
	t.Helper()
	check(t, k.phones.Register(k.ctx, user))
	if s.kind == "initial" || s.kind == "modify" {
		k.arm(s, user)
	}
	k.phones.SetRing(s.ring)
	calls := make(chan *stack.Call, 1)
	go func() {
		c, err := k.phones.Call(k.ctx, "boss", user)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		calls <- c
	}()
	call := <-calls
	if call == nil {
		return
	}
	if s.kind == "refresh" || s.kind == "remove" {
		k.lit(t, s, user)
		if s.forget {
			for _, v := range k.victims {
				v.server.Forget()
			}
		}
		k.arm(s, user)
	}
	ended := s.ends == "before" || s.during
	if s.during {
		time.Sleep(100 * time.Millisecond)
	}
	if ended {
		check(t, call.Hangup(k.ctx))
	}
	last := k.allKilled(t, s)
	k.phones.SetRing(0)
	if s.ends == "dead" && !ended {
		check(t, call.Hangup(k.ctx))
	}
	if s.again {
		ctx, cancel := context.WithTimeout(k.ctx, 10*time.Second)
		defer cancel()
		_, err := k.phones.Call(ctx, "boss", user)
		check(t, err)
	}
	for _, v := range k.victims {
		v.server.Script(nil)
		check(t, v.sidecar.Start())
	}
	began := time.Now()
	if s.ends == "" || s.again {
		k.lit(t, s, user)
		k.slowest = max(k.slowest, time.Since(began))
		return
	}
	k.dark[user] = last
}

// arm has every server kill its sidecar at the first request of a step.
func (k *killer) arm(s step, user string) {
	for _, v := range k.victims {
		once := sync.OnceFunc(func() {
			time.Sleep(v.after)
			v.sidecar.Kill()
			v.killed <- time.Now()
		})
		done := false
		v.server.Script(func(p stack.Publish, kind string) stack.Verdict {
			if done || p.User != user || kind != s.kind {
				return stack.Verdict{}
			}
			done = true
			verdict := s.answer
			verdict.Then = once
			if v.loses != nil {
				v.loses(&verdict)
			}
			return verdict
		})
	}
}

// allKilled waits until every victim was killed, and returns when the last one was.
func (k *killer) allKilled(t *testing.T, s step) (last time.Time) {
	t.Helper()
	late := time.After(2 * granted)
	for _, v := range k.victims {
		select {
		case at := <-v.killed:
			k.kills++
			if at.After(last) {
				last = at
			}
		case <-late:
			t.Fatalf("%s, %s: no such request came, so that nobody was killed", s.name, v.name)
		}
	}
	return last
}

// lit waits until every server shows a user on the phone.
func (k *killer) lit(t *testing.T, s step, user string) {
	t.Helper()
	check(t, k.Wait(k.ctx, 10*time.Second, s.name, func() error {
		for _, v := range k.victims {
			if v.server.Lit(user) == 0 {
				return fmt.Errorf("%s is in a call and dark (%s)", user, v.name)
			}
		}
		return nil
	}))
}

// atTheEnd waits until every table is empty, and looks at what was in them.
func (k *killer) atTheEnd(t *testing.T) {
	t.Helper()
	check(t, k.Wait(k.ctx, granted+10*time.Second, "empty tables after the last call", func() error {
		for _, v := range k.victims {
			if n := v.server.Live(); n > 0 {
				return fmt.Errorf("%d publications (%s)", n, v.name)
			}
		}
		return nil
	}))
	for i, s := range steps {
		user := fmt.Sprintf("step%d", i)
		dead, ended := k.dark[user]
		for _, v := range k.victims {
			second := v.server.Second(user)
			if second > granted {
				t.Errorf("%s, %s: a second publication lived for %v beside the first one; the server grants %v", s.name, v.name, second, granted)
			}
			if k.longest = max(k.longest, second); second > 0 {
				k.seconds++
			}
			if v.known && second > 0 {
				t.Errorf("%s, %s: a second publication, for %v, though the store knew of the first", s.name, v.name, second)
			}
			if !ended {
				continue
			}
			stuck := time.Duration(0)
			for _, life := range v.server.Lives(user) {
				stuck = max(stuck, life.Until.Sub(dead))
				if v.known && s.ends == "dead" && !s.during {
					k.knownEnded++
					if life.Removed {
						k.removed++
					}
				}
			}
			// I8 has 30 s; the sidecar's restart is in it.
			if stuck > granted+10*time.Second {
				t.Errorf("%s, %s: published for %v after the sidecar was dead", s.name, v.name, stuck)
			}
			if stuck > 2*time.Second {
				k.later++
			} else {
				k.atOnce++
			}
		}
	}
}
