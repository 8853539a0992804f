// Package integration runs busylamp with a real Kamailio and real calls: what it promises
// when all is well, and under faults.
package integration

import (
	"context"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// newStack returns a stack for a test. Where the tests are meant to run (CI,
// BUSYLAMP_E2E=1) missing programs are a failure, so that nobody takes a skip for a pass.
// The files of a test that failed are kept.
func newStack(t *testing.T) (context.Context, *stack.Stack) {
	t.Helper()
	if err := stack.Tools("kamailio", "kamcmd", "sipp"); err != nil {
		if os.Getenv("CI") != "" || os.Getenv("BUSYLAMP_E2E") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	s, err := stack.New()
	if err != nil {
		t.Fatal(err)
	}
	patience := 3 * time.Minute
	if record.Soak() {
		patience = 100 * time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(func() {
		cancel()
		if err := s.Err(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("logs and configurations are in %s", s.Dir)
		} else if err := s.Remove(); err != nil {
			t.Error(err)
		}
	})
	return ctx, s
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// scene is what most tests need: calls that become PUBLISH requests, which are recorded.
type scene struct {
	*stack.Stack
	ctx      context.Context
	proxy    *stack.Kamailio
	recorder *stack.Recorder
	phones   *stack.Phones
	sidecar  *stack.Sidecar
}

// newScene starts all but the sidecar.
func newScene(t *testing.T, o stack.KamailioOptions) *scene {
	t.Helper()
	ctx, s := newStack(t)
	sc := &scene{Stack: s, ctx: ctx}
	var err error
	sc.recorder, err = s.Recorder()
	check(t, err)
	sc.proxy, err = s.Proxy(ctx, o)
	check(t, err)
	sc.phones, err = s.Phones(sc.proxy.Addr, stack.Domain)
	check(t, err)
	return sc
}

// start starts the sidecar and waits until it is ready. What c leaves open points at the
// scene's parts.
func (sc *scene) start(t *testing.T, c stack.SidecarConfig) {
	t.Helper()
	if c.Evapi == "" {
		c.Evapi = sc.proxy.Evapi
	}
	if c.Server == "" {
		c.Server = sc.recorder.Addr
	}
	c.RPC = sc.proxy.RPC
	var err error
	sc.sidecar, err = sc.Sidecar(sc.ctx, c)
	check(t, err)
	check(t, sc.sidecar.WaitReady(sc.ctx, 20*time.Second))
}

// register registers the callees of the first n pairs of users.
func (sc *scene) register(t *testing.T, n int) {
	t.Helper()
	users := make([]string, n)
	for i := range users {
		_, users[i] = pair(i)
	}
	check(t, sc.phones.Register(sc.ctx, users...))
}

// pair names the users of a call.
func pair(i int) (from, to string) { return fmt.Sprintf("caller%d", i), fmt.Sprintf("callee%d", i) }

// agrees waits until the lamps agree with the phones, and returns how long it took.
func (sc *scene) agrees(t *testing.T, atMost time.Duration) time.Duration {
	t.Helper()
	return sc.agreesOn(t, "", atMost)
}

// agreesOn does so for the users whose names begin with a prefix.
func (sc *scene) agreesOn(t *testing.T, prefix string, atMost time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	check(t, sc.Wait(sc.ctx, atMost, "lamps that agree with the calls", func() error {
		inCalls := sc.phones.InCalls()
		maps.DeleteFunc(inCalls, func(user string, _ int) bool { return !strings.HasPrefix(user, prefix) })
		return stack.Compare(sc.recorder.Lit(), inCalls)
	}))
	return time.Since(began)
}
