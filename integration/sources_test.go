package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/stack"
)

// alice is who the tests of sources are about.
const alice = "sip:alice@" + stack.Domain

// TestSourcesFold: on real parts, what is published of a user is the strongest of what is
// known of her: by another PBX (a second Kamailio, seen by dialog and by presence), by a call
// of one's own proxy, and by a plugin; all the way up and all the way down. The presence
// server's own word is looked at.
func TestSourcesFold(t *testing.T) {
	t.Parallel()
	sc := newScene(t, stack.KamailioOptions{})
	havePlugins(t, sc.Stack)
	server, err := sc.Presence(sc.ctx, stack.KamailioOptions{})
	check(t, err)
	pbx, err := sc.PBX(sc.ctx, stack.KamailioOptions{Domain: stack.Domain})
	check(t, err)
	there, err := sc.Phones(pbx.Addr, stack.Domain) // of the other PBX
	check(t, err)
	check(t, there.Register(sc.ctx, "alice", "erin"))
	check(t, sc.phones.Register(sc.ctx, "alice", "bob"))
	chosen := newDesk(t, sc.Stack, "desk")
	sc.start(t, stack.SidecarConfig{Server: server.Addr, Watch: []string{alice}, LogLevel: "info", Env: ownTemp(sc.Stack), Sources: []stack.SourceConfig{
		sipSource("pbx-dialog", pbx.Addr, "dialog"), sipSource("pbx-presence", pbx.Addr, "presence"), chosen.source()}})
	watcher, err := sc.Watcher(server.Addr, stack.Domain)
	check(t, err)
	check(t, watcher.Watch(sc.ctx, "alice"))

	publish := func(activity string) func() {
		return func() {
			document := ""
			if activity != "" {
				document = stack.PIDF(alice, "softphone", "", activity)
			}
			check(t, there.Publish(sc.ctx, "alice", document))
		}
	}
	var other, own *stack.Call
	call := func(phones *stack.Phones, to string, c **stack.Call) func() {
		return func() { *c, err = phones.Call(sc.ctx, "alice", to); check(t, err) }
	}
	hangup := func(c **stack.Call) func() { return func() { check(t, (*c).Hangup(sc.ctx)) } }
	steps := []struct {
		what             string
		do               func()
		state, source    string
		published, shown string // by the API, and by the presence server: activities, note
	}{
		{"nothing", func() {}, "available", "", "clear", ""},
		{"away there (presence)", publish("away"), "away", "pbx-presence", "away", "away; Away"},
		{"busy there (presence)", publish("busy"), "busy", "pbx-presence", "busy", "busy; Busy"},
		{"meeting there (presence)", publish("meeting"), "meeting", "pbx-presence", "meeting", "busy meeting; In a meeting"},
		{"a call there (dialog)", call(there, "erin", &other), "other-call", "pbx-dialog", "on-the-phone", "busy on-the-phone; On the phone"},
		{"a call here", call(sc.phones, "bob", &own), "on-the-phone", "calls", "on-the-phone", "busy on-the-phone; On the phone"},
		{"presenting there (presence)", publish("presentation"), "presenting", "pbx-presence", "presenting", "busy; Presenting"},
		{"do-not-disturb at the desk", func() { chosen.says(t, alice+" do-not-disturb writing\n") }, "do-not-disturb", "desk", "do-not-disturb", "busy; Do not disturb"},
		{"presents no more: a meeting", publish("meeting"), "do-not-disturb", "desk", "do-not-disturb", "busy; Do not disturb"},
		{"may be disturbed", func() { chosen.says(t, "") }, "on-the-phone", "calls", "on-the-phone", "busy on-the-phone; On the phone"},
		{"the call here ends", hangup(&own), "other-call", "pbx-dialog", "on-the-phone", "busy on-the-phone; On the phone"},
		{"the call there ends", hangup(&other), "meeting", "pbx-presence", "meeting", "busy meeting; In a meeting"},
		{"busy there", publish("busy"), "busy", "pbx-presence", "busy", "busy; Busy"},
		{"away there", publish("away"), "away", "pbx-presence", "away", "away; Away"},
		{"withdrawn there", publish(""), "available", "", "clear", ""},
	}
	var table strings.Builder
	last := ""
	for _, s := range steps {
		began := time.Now()
		s.do()
		p := sc.becomes(t, alice, s.state, s.source, s.published)
		seen := sc.shows(t, watcher, "alice", s.shown, s.shown != last)
		fmt.Fprintf(&table, "\n  %-28s %-14s by %-12s -> %-34q after %v", s.what, p.State, p.Source, s.shown, seen.Sub(began).Round(time.Millisecond))
		last = s.shown
	}
	t.Logf("what happens, what is known, what the presence server tells a watcher:%s", table.String())
	if err := watcher.Err(); err != nil {
		t.Error(err)
	}
}

// shows waits until a watcher is told activities and a note of somebody, and returns when that
// was. Where nothing is to change, nothing may come meanwhile.
func (sc *scene) shows(t *testing.T, w *stack.Watcher, user, want string, changes bool) time.Time {
	t.Helper()
	patience := 10 * time.Second
	if !changes {
		patience = 300 * time.Millisecond
	}
	late := time.After(patience)
	last := "nothing"
	for {
		select {
		case s := <-w.Seen():
			last = stack.Person(s.Document)
			if s.User != user {
				continue
			}
			if last == want {
				return s.At
			}
			if !changes {
				t.Fatalf("%s: the presence server shows %q, not %q still", user, last, want)
			}
		case <-late:
			if changes {
				t.Fatalf("%s: the presence server shows %q, not %q", user, last, want)
			}
			return time.Now()
		}
	}
}
