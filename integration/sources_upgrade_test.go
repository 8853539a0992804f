package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// TestPluginUpgrade: a plugin's file is replaced and, once the new one's sha256 is in the
// configuration, runs after a reload. That plugin alone is restarted: its own claims, those of
// the others and a call's lamp stand throughout. With the old sha256 the one that runs goes on.
func TestPluginUpgrade(t *testing.T) {
	t.Parallel()
	const each, mine = 20, "upgraded"
	sc := newScene(t, stack.KamailioOptions{})
	havePlugins(t, sc.Stack)
	dir, err := sc.Plugins()
	check(t, err)
	file := filepath.Join(dir, mine)
	check(t, os.Link(filepath.Join(dir, sipPlugin), file))
	check(t, sc.phones.Register(sc.ctx, "alice", "bob"))
	shown, err := sc.Notifier(0)
	check(t, err)
	desks, beside := newDesk(t, sc.Stack, "desk"), newDesk(t, sc.Stack, "beside")
	atDesk, deskURIs := members("desk", each)
	atBeside, besideURIs := members("beside", each)
	remote, remoteURIs := members("remote", each)
	desks.says(t, strings.Join(deskURIs, " do-not-disturb\n")+" do-not-disturb\n")
	beside.says(t, strings.Join(besideURIs, " busy\n")+" busy\n")
	for i, user := range remote {
		shown.Set(user, stack.PIDF(remoteURIs[i], "t1", "", "meeting"))
	}
	sources := []stack.SourceConfig{sipSource("remote", shown.Addr, "presence"), beside.source(), desks.source()}
	sources[0].Plugin, sources[0].PerSecond = mine, 1000
	old, err := stack.Pin(file)
	check(t, err)
	sources[0].SHA256 = old
	sc.start(t, stack.SidecarConfig{Watch: append(append(deskURIs, besideURIs...), remoteURIs...), LogLevel: "info", Env: ownTemp(sc.Stack), Sources: sources,
		More: "rules:\n  - {match: '^sip:remote', sources: [remote]}\n  - {sources: [calls, desk, beside]}\n"})
	all := map[string]int{"desk": each, "beside": each, "remote": each}
	sc.sourcesStand(t, 20*time.Second, all)
	call, err := sc.phones.Call(sc.ctx, "alice", "bob")
	check(t, err)
	sc.agreesOn(t, "", 10*time.Second)
	before, err := sc.sidecar.Sources(sc.ctx)
	check(t, err)

	check(t, sc.Plugin(sc.ctx, "./cmd/"+sipPlugin, mine, "2.0.0"))
	reload := func(sha256 string) {
		t.Helper()
		check(t, sc.sidecar.Reload(func(c *stack.SidecarConfig) { c.Sources[0].SHA256 = sha256 }))
	}
	reload(old)
	time.Sleep(time.Second)
	same := sc.sameProcesses(t, before, each)
	if now := same["remote"]; now.PID != before["remote"].PID || now.State != "running" {
		t.Errorf("with the old sha256: %+v, not %+v", now, before["remote"])
	}
	reload("") // of the file that is there now
	check(t, sc.Wait(sc.ctx, 10*time.Second, "the new plugin", func() error {
		if now := sc.sameProcesses(t, before, each)["remote"]; now.PID == before["remote"].PID || now.Version != "2.0.0" || now.State != "running" {
			return fmt.Errorf("%+v", now)
		}
		return nil
	}))
	sc.sourcesStand(t, 10*time.Second, all)
	time.Sleep(500 * time.Millisecond)
	now := sc.sameProcesses(t, before, each)
	untouched(t, stack.ByUser(sc.recorder.All()), atDesk, atBeside, remote, []string{"alice", "bob"})
	check(t, call.Hangup(sc.ctx))
	sc.agreesOn(t, "", 10*time.Second)
	record.Fault(t, "plugin-replaced", 1, "version %s by %s, another process; those of the others, %d publications and a call's lamps as they were",
		before["remote"].Version, now["remote"].Version, 3*each)
}

// sameProcesses returns how the sources stand, and checks that all but the first are as they
// were, with so many claims. A sidecar that reloads does not answer for a moment.
func (sc *scene) sameProcesses(t *testing.T, before map[string]stack.Source, claims int) (now map[string]stack.Source) {
	t.Helper()
	check(t, sc.Wait(sc.ctx, 5*time.Second, "how the sources stand", func() (err error) {
		now, err = sc.sidecar.Sources(sc.ctx)
		return err
	}))
	for name, s := range now {
		if s.Claims != claims {
			t.Errorf("source %s has %d claims, not %d", name, s.Claims, claims)
		}
		if name != "remote" && (s.PID != before[name].PID || s.Restarts != before[name].Restarts) {
			t.Errorf("source %s was restarted, too: %+v, not %+v", name, s, before[name])
		}
	}
	return now
}
