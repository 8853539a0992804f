package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// members are those whom one source of TestPluginKilled100 knows, by the names of users.
func members(prefix string, n int) (users, uris []string) {
	for i := range n {
		users = append(users, fmt.Sprintf("%s%d", prefix, i))
		uris = append(uris, "sip:"+users[i]+"@"+stack.Domain)
	}
	return users, uris
}

// TestPluginKilled100: under calls, two plugins are killed -9, a hundred times in all. Their
// claims stay through the grace, so that nobody who watches sees a thing; neither those of a
// plugin beside them nor the calls' presence notice, and no call fails. The claims of a plugin
// that cannot start again lapse after its grace, and are back when it does. When busylamp
// itself is killed -9, no plugin outlives it, and the next one goes on where it was.
func TestPluginKilled100(t *testing.T) {
	t.Parallel()
	const rate, callers, each, kills, short = 50, 500, 20, 100, 2 * time.Second
	sc := newScene(t, stack.KamailioOptions{Shared: 256})
	havePlugins(t, sc.Stack)
	sc.register(t, callers)
	shown, err := sc.Notifier(0)
	check(t, err)
	desks, beside, doomed := newDesk(t, sc.Stack, "desk"), newDesk(t, sc.Stack, "beside"), newDesk(t, sc.Stack, "doomed")
	var watch []string
	put := func(d *desk, state string) (users []string) {
		users, uris := members(d.name, each)
		watch = append(watch, uris...)
		d.says(t, strings.Join(uris, " "+state+"\n")+" "+state+"\n")
		return users
	}
	atDesk, atBeside, atDoomed := put(desks, "do-not-disturb"), put(beside, "busy"), put(doomed, "away")
	away, uris := members("remote", each)
	watch = append(watch, uris...)
	for i, user := range away {
		shown.Set(user, stack.PIDF(uris[i], "t1", "", "meeting"))
	}
	dir, err := sc.Plugins()
	check(t, err)
	apart := filepath.Join(dir, "apart") // the doomed one's own file
	check(t, os.Link(filepath.Join(dir, templatePlugin), apart))
	sources := []stack.SourceConfig{desks.source(), sipSource("remote", shown.Addr, "presence"), beside.source(), doomed.source()}
	sources[1].PerSecond, sources[3].Plugin, sources[3].Grace = 1000, "apart", short
	sc.start(t, stack.SidecarConfig{Watch: watch, LogLevel: "warn", Env: ownTemp(sc.Stack), Orphans: true, Sources: sources,
		More: "rules:\n  - {match: '^sip:remote', sources: [remote]}\n  - {sources: [calls, desk, beside, doomed]}\n"})
	all := map[string]int{"desk": each, "remote": each, "beside": each, "doomed": each}
	sc.sourcesStand(t, 20*time.Second, all)

	stop := sc.endless(rate, time.Second, callers)
	sc.killPlugins(t, kills, each, "desk", "remote")
	res := stop()
	noFailures(t, res)
	sc.agreesOn(t, "call", 10*time.Second)
	sc.sourcesStand(t, 20*time.Second, all)
	published := stack.ByUser(sc.recorder.All())
	untouched(t, published, atDesk, away, atBeside, atDoomed)

	// The one that cannot start again: its file is gone.
	check(t, os.Rename(apart, apart+".away"))
	died := sc.killPlugin(t, "doomed")
	check(t, sc.Wait(sc.ctx, short+10*time.Second, "the end of the claims", func() error { return sc.changed(atDoomed, 2) }))
	lapsed := time.Since(died)
	if lapsed < short {
		t.Errorf("the claims lapsed %v after the plugin's end, before their grace of %v", lapsed, short)
	}
	check(t, os.Rename(apart+".away", apart))
	check(t, sc.sidecar.RestartSource(sc.ctx, "doomed"))
	sc.sourcesStand(t, 10*time.Second, all)
	check(t, sc.Wait(sc.ctx, 5*time.Second, "publications of the claims that are back", func() error {
		return sc.changed(atDoomed, 3)
	}))
	ended := sc.killSidecar(t)
	check(t, sc.sidecar.Start())
	sc.sourcesStand(t, 20*time.Second, all)
	time.Sleep(500 * time.Millisecond)
	published = stack.ByUser(sc.recorder.All())
	untouched(t, published, atDesk, away, atBeside)
	record.Fault(t, "plugin-killed", kills, "%d calls at %d/s, none failed; %d publications stood, none was touched; claims of one that "+
		"could not start lapsed %.2f s after its end (grace %v); after kill -9 of the sidecar 4 plugins were gone within %v, and nobody's lamp changed",
		res.Placed, rate, 4*each, lapsed.Seconds(), short, ended.Round(time.Millisecond))
}

// killPlugins kills sources' plugins in turn. Of each the first two the host restarts by
// itself, after its back-off; the others an administrator does, at once, which makes good what
// failed: else they would be parked. Throughout, their claims stand.
func (sc *scene) killPlugins(t *testing.T, kills, claims int, names ...string) {
	t.Helper()
	for i := range kills {
		name := names[i%len(names)]
		before, err := sc.sidecar.Sources(sc.ctx)
		check(t, err)
		sc.killPlugin(t, name)
		if i/len(names) >= 2 {
			check(t, sc.sidecar.RestartSource(sc.ctx, name))
		}
		check(t, sc.Wait(sc.ctx, 10*time.Second, "source "+name+" after its kill", func() error {
			now, err := sc.sidecar.Sources(sc.ctx)
			if err != nil {
				return err
			}
			for other, s := range now {
				if s.Claims != claims {
					t.Fatalf("kill %d, of %s: source %s has %d claims, not %d", i+1, name, other, s.Claims, claims)
				}
				if other != name && i < len(names) && s.PID != before[other].PID && s.PID != 0 && before[other].PID != 0 {
					t.Errorf("kill %d, of %s: source %s has been restarted, too", i+1, name, other)
				}
			}
			if s := now[name]; s.State != "running" || s.PID == before[name].PID {
				return fmt.Errorf("%+v", s)
			}
			return nil
		}))
	}
}

// killPlugin kills a source's process and returns when.
func (sc *scene) killPlugin(t *testing.T, name string) time.Time {
	t.Helper()
	now, err := sc.sidecar.Sources(sc.ctx)
	check(t, err)
	pid := now[name].PID
	if pid == 0 {
		t.Fatalf("source %s does not run: %+v", name, now[name])
	}
	at := time.Now()
	check(t, syscall.Kill(pid, syscall.SIGKILL))
	return at
}

// killSidecar kills busylamp alone and returns after how long no plugin was left.
func (sc *scene) killSidecar(t *testing.T) time.Duration {
	t.Helper()
	children, err := sc.sidecar.Children()
	check(t, err)
	if len(children) != 4 {
		t.Fatalf("busylamp has started %+v, and not 4 plugins", children)
	}
	died := time.Now()
	sc.sidecar.Kill()
	check(t, sc.Wait(sc.ctx, 5*time.Second, "the end of the plugins", func() (err error) {
		for _, c := range children {
			if c.Lives() {
				err = errors.Join(err, fmt.Errorf("%s (%d) lives", c.Name, c.PID))
			}
		}
		return err
	}))
	return time.Since(died)
}

// untouched checks that users were published once, and all the time the same since: now and
// then busylamp refreshes somebody, to see whether the server remembers.
func untouched(t *testing.T, published map[string][]stack.Publish, groups ...[]string) {
	t.Helper()
	for _, users := range groups {
		for _, user := range users {
			if got := changes(published[user]); len(got) != 1 || got[0] == "" {
				t.Errorf("%s was published as %q, and not once", user, got)
			}
		}
	}
}

// changes returns what the server was told of a user, one after the other, "" for nothing. What
// is told again is left out, unless it comes without an entity-tag: that forgets what was there.
func changes(all []stack.Publish) (said []string) {
	for _, p := range all {
		now := stack.Person(p.Body)
		if p.Kind() == "refresh" || p.Kind() == "modify" && now == said[len(said)-1] {
			continue
		}
		said = append(said, now)
	}
	return said
}

// changed tells whether of each of the users the server was told so many changes.
func (sc *scene) changed(users []string, n int) error {
	published := stack.ByUser(sc.recorder.All())
	for _, user := range users {
		if got := changes(published[user]); len(got) != n {
			return fmt.Errorf("%s was published as %q, and not %d times", user, got, n)
		}
	}
	return nil
}
