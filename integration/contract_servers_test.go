package integration

import (
	"context"
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/sipnet"
	"github.com/busylamp/busylamp/adapters/sippublish"
	"github.com/busylamp/busylamp/integration/compositor"
	"github.com/busylamp/busylamp/integration/stack"
)

// mostGranted is the longest lifetime that the suite's servers grant: kamailio-cfg's sample
// says so.
const mostGranted = time.Hour

// simulated is the presence server of the core's random schedules, in virtual time.
type simulated struct {
	compositor.Server
	now time.Duration
}

func newSimulated(h habits) *simulated {
	return &simulated{Server: compositor.Server{Least: h.least, Most: mostGranted, ForgetsBodies: h.forgetsBodies, Lingers: h.lingers}}
}

func (s *simulated) publish(_ *testing.T, _ int, r busylamp.Request) busylamp.Outcome {
	sent := compositor.Request{Presentity: string(r.Presentity), Tag: r.Tag, Expires: r.Expires}
	if r.Kind == busylamp.Initial || r.Kind == busylamp.Modify {
		sent.Body = r.State.String()
	}
	a := s.Publish(sent, s.now)
	return busylamp.Outcome{Code: a.Code, Tag: a.Tag, Expires: a.Expires, MinExpires: a.MinExpires}
}

func (s *simulated) shows(_ *testing.T, who busylamp.Presentity) (states []string) {
	for _, p := range s.Published(string(who), s.now) {
		if p.Body != "" {
			states = append(states, p.Body)
		}
	}
	return states
}

func (s *simulated) pass(d time.Duration) { s.now += d }

func (s *simulated) restart(*testing.T) { s.Forget() }

// genuine is Kamailio's presence server of kamailio-cfg/sample. The sidecar's own adapter
// publishes there, and a watcher looks.
type genuine struct {
	*stack.Stack
	ctx    context.Context
	server *stack.Kamailio
	agents [2]*sippublish.Publisher
}

func newGenuine(t *testing.T, h habits) *genuine {
	ctx, s := newStack(t)
	r := &genuine{Stack: s, ctx: ctx}
	var err error
	r.server, err = s.Presence(ctx, stack.KamailioOptions{Tables: !h.forgetsBodies,
		Defines: []string{fmt.Sprintf("PRESENCE_CLEAN=%.0f", h.lingers.Seconds())}})
	check(t, err)
	target, err := sipnet.ParseTarget("sip:" + r.server.Addr + ";transport=udp")
	check(t, err)
	for i, id := range []string{"first", "second"} {
		p, err := sippublish.New(sippublish.Config{Name: id, Server: target, Profile: sippublish.RPID, TupleID: id})
		check(t, err)
		t.Cleanup(func() { check(t, p.Close()) })
		r.agents[i] = p
	}
	return r
}

func (r *genuine) publish(_ *testing.T, agent int, req busylamp.Request) busylamp.Outcome {
	return r.agents[agent].Publish(r.ctx, req)
}

// notes finds the notes of the documents that the adapter publishes, one in each.
var notes = regexp.MustCompile(`<[a-z]*:?note>([^<]*)</`)

// states are what the notes stand for.
var states = map[string]busylamp.State{"On the phone": busylamp.OnThePhone, "Busy": busylamp.Busy, "Away": busylamp.Away}

// shows subscribes anew, for the first NOTIFY tells what is known now.
func (r *genuine) shows(t *testing.T, who busylamp.Presentity) (shown []string) {
	t.Helper()
	w, err := r.Watcher(r.server.Addr, stack.Domain)
	check(t, err)
	check(t, w.Watch(r.ctx, who.User()))
	select {
	case s := <-w.Seen():
		for _, note := range notes.FindAllStringSubmatch(s.Document, -1) {
			shown = append(shown, states[note[1]].String())
		}
		return shown
	case <-time.After(10 * time.Second):
		t.Fatalf("no NOTIFY of %s within 10 s", who)
		return nil
	}
}

func (r *genuine) pass(d time.Duration) { time.Sleep(d) }

// restart begins with an empty table: the stack makes new text tables as well.
func (r *genuine) restart(t *testing.T) {
	t.Helper()
	r.server.Kill()
	check(t, r.server.Restart(r.ctx))
}
