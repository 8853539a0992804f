package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/stack"
)

// TestNoEcho: a source that watches the very system that busylamp publishes to does not take
// busylamp's own word for another's: when the call ends, the lamp clears. Two things see to
// it, and each does alone: what stands under our own tuple is not heard, and of a system that
// is said to be the same (same_system_as), a claim that says what we have published there.
func TestNoEcho(t *testing.T) {
	t.Run("by tuple", testNoEchoByTuple)
	t.Run("by state", testNoEchoByState)
}

// testNoEchoByTuple: a real presence server, and nothing said of its being the same.
func testNoEchoByTuple(t *testing.T) {
	t.Parallel()
	sc := newScene(t, stack.KamailioOptions{})
	havePlugins(t, sc.Stack)
	server, err := sc.Presence(sc.ctx, stack.KamailioOptions{})
	check(t, err)
	others, err := sc.Phones(server.Addr, stack.Domain) // which publish for themselves
	check(t, err)
	check(t, sc.phones.Register(sc.ctx, "alice", "bob"))
	sc.start(t, stack.SidecarConfig{Server: server.Addr, Watch: []string{alice}, LogLevel: "info", Env: ownTemp(sc.Stack),
		Sources: []stack.SourceConfig{sipSource("same", server.Addr, "presence")}})
	lamps, err := sc.Lamps(server.Addr, stack.Domain)
	check(t, err)

	check(t, others.Publish(sc.ctx, "alice", stack.PIDF(alice, "softphone", "", "meeting")))
	sc.becomes(t, alice, "meeting", "same", "meeting")
	check(t, others.Publish(sc.ctx, "alice", ""))
	sc.becomes(t, alice, "available", "", "clear") // and not the meeting that we have published ourselves

	call, err := sc.phones.Call(sc.ctx, "alice", "bob")
	check(t, err)
	sc.becomes(t, alice, "on-the-phone", "calls", "on-the-phone")
	check(t, others.Publish(sc.ctx, "alice", stack.PIDF(alice, "softphone", "", "away")))
	p := sc.claims(t, alice, "same", "away") // of a document with both: the call in it is ours
	check(t, call.Hangup(sc.ctx))
	ended := time.Now()
	sc.becomes(t, alice, "away", "same", "away")
	t.Logf("a document of our call and another's %s: only that is heard; %v after the call's end that is shown",
		p.Claim("same").State, time.Since(ended).Round(time.Millisecond))
	check(t, others.Publish(sc.ctx, "alice", ""))
	sc.becomes(t, alice, "available", "", "clear")
	lit, err := lamps.Fetch(sc.ctx, "alice", "bob")
	if check(t, err); len(lit) > 0 {
		t.Errorf("lit still: %v", lit)
	}
}

// testNoEchoByState: the system gives our publications ids of its own, so that only what they
// say tells them from others'.
func testNoEchoByState(t *testing.T) {
	t.Parallel()
	sc := newScene(t, stack.KamailioOptions{})
	havePlugins(t, sc.Stack)
	shown, err := sc.Notifier(0) // the system's other side: the recorder takes the PUBLISHes
	check(t, err)
	check(t, sc.phones.Register(sc.ctx, "alice", "bob"))
	same := sipSource("same", shown.Addr, "presence")
	same.SameSystemAs = []string{"presence"}
	sc.start(t, stack.SidecarConfig{Watch: []string{alice}, LogLevel: "info", Env: ownTemp(sc.Stack), Sources: []stack.SourceConfig{same}})
	sc.claims(t, alice, "same", "available")

	call, err := sc.phones.Call(sc.ctx, "alice", "bob")
	check(t, err)
	sc.becomes(t, alice, "on-the-phone", "calls", "on-the-phone")
	shown.Set("alice", stack.PIDF(alice, "of-the-server", "", "on-the-phone"))
	if p := sc.claims(t, alice, "same", "other-call"); !p.Claim("same").Echo {
		t.Errorf("our own word is taken for another's: %+v", p)
	}
	check(t, call.Hangup(sc.ctx))
	sc.becomes(t, alice, "available", "", "clear") // though the system says so still

	shown.Set("alice", stack.PIDF(alice, "softphone", "", "meeting"))
	sc.becomes(t, alice, "meeting", "same", "clear") // known, and not told to where it is from
	shown.Set("alice", stack.PIDF(alice, "softphone", "", "on-the-phone"))
	sc.becomes(t, alice, "other-call", "same", "clear")
	call, err = sc.phones.Call(sc.ctx, "alice", "bob") // whoever said so before us is no echo
	check(t, err)
	sc.becomes(t, alice, "on-the-phone", "calls", "on-the-phone")
	shown.Set("alice", stack.PIDF(alice, "softphone", "again", "on-the-phone"))
	check(t, call.Hangup(sc.ctx))
	sc.becomes(t, alice, "other-call", "same", "clear")
}

// claims waits until a source says a state of somebody.
func (sc *scene) claims(t *testing.T, who, source, state string) (p stack.Presentity) {
	t.Helper()
	check(t, sc.Wait(sc.ctx, 10*time.Second, "the claim "+state+" of source "+source, func() (err error) {
		if p, err = sc.sidecar.Look(sc.ctx, who); err == nil && p.Claim(source).State != state {
			err = fmt.Errorf("it says %+v", p.Claim(source))
		}
		return err
	}))
	return p
}
