package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

// nothingYet is a sink for those who only look at statuses.
type nothingYet struct{}

func (nothingYet) Report(int, busylamp.SourceReport) {}

func stateOf(h *Host, i int) string { return h.Statuses()[i].State }

// TestUpgrade: another configuration, and another file of the same name, replace a process by
// one that is ready, and only by such; the others, and one that is the same, go on.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	dir, log := plugins(t), &notebook{}
	l := listen(t)
	h := newHost(t, quick())
	one, other := install(t, dir, "one"), install(t, dir, "other")
	h.Apply([]Config{of("a", one, "{}", log), of("b", other, "{}", log)}, l)
	l.up(0)
	eventually(t, "b", func() bool { return stateOf(h, 1) == running })
	a, b := pidOf(t, h, 0), pidOf(t, h, 1)

	// The other order, and b's configuration is no good.
	h.Apply([]Config{of("b", other, `{"do":"problem"}`, log), of("a", one, "{}", log)}, l)
	log.has(t, `level=ERROR msg="the plugin cannot be replaced, the one that runs goes on" source=b error="do: is no good: write something else"`)
	if !h.Kept(0) || !h.Kept(1) || h.Kept(2) || h.Kept(-1) {
		t.Error("kept: not both")
	}
	h.Source(0).Watch(watch(bob))
	if s := l.claim(0, bob); !strings.HasSuffix(s.Details.Note, "in other") {
		t.Errorf("the old process of b says %+v", s)
	}
	if pidOf(t, h, 0) != b || pidOf(t, h, 1) != a {
		t.Error("a process was replaced")
	}
	if s := h.Statuses()[0]; s.State != running || !strings.Contains(s.Error, "do: is no good") {
		t.Errorf("status of b: %+v", s)
	}

	// Now it is good. Then the file is another.
	h.Apply([]Config{of("b", other, `{"do":"count"}`, log), of("a", one, "{}", log)}, l)
	l.down(0, "replaced by another process")
	l.up(0)
	if !gone(b) {
		t.Error("the former process of b is still there")
	}
	tampered, err := os.ReadFile(one)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(one+".new", append(tampered, 0), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(one+".new", one); err != nil {
		t.Fatal(err)
	}
	h.Apply([]Config{of("a", one, "{}", log)}, l)
	l.down(0, "replaced by another process")
	l.up(0)
	if len(h.Statuses()) != 1 || pidOf(t, h, 0) == a {
		t.Errorf("%+v", h.Statuses())
	}
	if info, ok := h.Info(0); !ok || info.Batch != 5 || info.Endpoints != 2 {
		t.Errorf("Info: %+v, %v", info, ok)
	}
}

// TestDetach: between two configurations reports wait, none is lost or told twice, and the
// stream goes on.
func TestDetach(t *testing.T) {
	t.Parallel()
	l := listen(t)
	h := newHost(t, quick())
	cfg := of("one", install(t, plugins(t), "raw"), `{"do":"count"}`, nil)
	h.Apply([]Config{of("zero", cfg.Path, "{}", nil), cfg}, l)
	l.up(1)
	next := uint64(1)
	count := func(source int, to uint64) {
		t.Helper()
		for next <= to {
			for _, s := range l.until(source, "claim", func(r busylamp.SourceReport) bool { return len(r.Statements) > 0 }).Statements {
				if s.Sequence != next {
					t.Fatalf("claim %d came after %d", s.Sequence, next-1)
				}
				next++
			}
		}
	}
	count(1, 100)
	pid := pidOf(t, h, 1)
	h.Detach()
	for before := true; before; { // what the sink has by now was told to it
		select {
		case r := <-l.all:
			for range r.Statements {
				next++
			}
		default:
			before = false
		}
	}
	// Nothing comes while nobody listens.
	time.Sleep(50 * time.Millisecond)
	l.quiet(func(heard) bool { return false })
	l = listen(t)
	h.Apply([]Config{cfg}, l)
	if !h.Kept(0) {
		t.Error("the source was not kept")
	}
	count(0, 3000)
	h.Source(0).Watch(watch(alice))
	l.claim(0, alice)
	if pidOf(t, h, 0) != pid {
		t.Error("the process was replaced")
	}
	l.quiet(func(x heard) bool { return x.Up == nil && x.Down == "" })
}

// TestDetachedDeath: a process that dies while nobody listens is told to the next sink, which
// believes that it runs.
func TestDetachedDeath(t *testing.T) {
	t.Parallel()
	l := listen(t)
	h := newHost(t, quick())
	cfg := of("one", install(t, plugins(t), "raw"), "{}", nil)
	h.Apply([]Config{cfg}, l)
	l.up(0)
	h.Detach()
	h.Source(0).Watch(watch("sip:die@example.com"))
	eventually(t, "end", func() bool { return h.Statuses()[0].PID == 0 })
	if !h.Kept(0) {
		t.Error("the sink has been told that the source is up, and nothing else")
	}
	l = listen(t)
	h.Apply([]Config{cfg}, l)
	l.down(0, "exit status 7")
	l.up(0)
}

// TestParked: who fails too often in a row is left alone, told once, until somebody asks for
// it.
func TestParked(t *testing.T) {
	t.Parallel()
	log := &notebook{}
	timing := quick()
	timing.failures = 3
	h := newHost(t, timing)
	dir := plugins(t)
	path := script(t, dir, "x", "#!/bin/sh\nexit 1\n")
	h.Apply([]Config{of("one", path, "{}", log)}, nothingYet{})
	isParked := func() bool { return stateOf(h, 0) == parked }
	eventually(t, "parked plugin", isParked)
	log.has(t, `level=WARN msg="the plugin failed 3 times in a row and is parked: mend it, then busylamp plugin restart one" source=one error="the process ended (exit status 1)"`)
	if n := strings.Count(log.String(), "is started again"); n != 2 {
		t.Errorf("%d restarts were told", n)
	}
	h.Apply([]Config{of("one", path, "{}", log)}, nothingYet{})
	time.Sleep(20 * time.Millisecond)
	if !isParked() {
		t.Error("an Apply without a change has started it")
	}
	before := h.Statuses()[0].Restarts
	if err := h.Restart("one"); err != nil {
		t.Error(err)
	}
	eventually(t, "three more failures", func() bool { return isParked() && h.Statuses()[0].Restarts == before+3 })
	if err := h.Restart("two"); err == nil || err.Error() != `source "two" is not configured` {
		t.Errorf("Restart of nobody: %v", err)
	}
	// Another file takes it out of the park, too.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	install(t, dir, "x")
	h.Apply([]Config{of("one", path, "{}", log)}, nothingYet{})
	eventually(t, "running plugin", func() bool { return stateOf(h, 0) == running })
}

// TestRestart: one that runs is replaced.
func TestRestart(t *testing.T) {
	t.Parallel()
	l := listen(t)
	h := newHost(t, quick())
	h.Apply([]Config{of("one", install(t, plugins(t), "raw"), "{}", nil)}, l)
	l.up(0)
	pid := pidOf(t, h, 0)
	if err := h.Restart("one"); err != nil {
		t.Fatal(err)
	}
	l.down(0, "replaced")
	l.up(0)
	if !gone(pid) || pidOf(t, h, 0) == pid {
		t.Error("the former process is still there")
	}
}

// TestDelay: the back-off doubles from a second to a minute, less up to a quarter by chance.
func TestDelay(t *testing.T) {
	timing := defaultTiming()
	for i, most := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		for range 100 {
			if d := timing.delay(i + 1); d > most*time.Second || d < most*time.Second*3/4 {
				t.Errorf("after %d failures: %v", i+1, d)
			}
		}
	}
}

// TestInspect: a plugin is described and configured, or what is wrong with it is said, and
// nothing of it runs on.
func TestInspect(t *testing.T) {
	t.Parallel()
	path := install(t, plugins(t), "raw")
	d, endpoints, err := Inspect(context.Background(), of("one", path, "{}", nil))
	if err != nil || d.Name != "raw" || d.Version != "1.2.3" || d.Batch != 5 || len(d.Serves) != 1 || strings.Join(endpoints, " ") != "application one" {
		t.Errorf("%+v, %q, %v", d, endpoints, err)
	}
	d, _, err = Inspect(context.Background(), of("one", path, `{"do":"problem"}`, nil))
	var wrong *ConfigError
	if !errors.As(err, &wrong) || len(wrong.Problems) != 1 || wrong.Problems[0].Key != "do" || d.Version != "1.2.3" {
		t.Errorf("%+v, %v", d, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, _, err = Inspect(ctx, of("one", install(t, plugins(t), "silent"), "{}", nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled one: %v", err)
	}
}

// TestClosed: a host that was closed starts nothing, and its sources take what comes.
func TestClosed(t *testing.T) {
	h := New()
	h.Close()
	if err := h.Apply([]Config{of("one", "/x", "", nil)}, nothingYet{}); err == nil {
		t.Error("Apply works after Close")
	}
	h.Source(0).Watch(watch(alice))
	if _, ok := h.Info(0); ok {
		t.Error("Info of nobody")
	}
	h.Close()
}

// beHost is the main of a host that is to be killed. It prints its plugins' processes.
func beHost(dir string) {
	h := New()
	var cfgs []Config
	for _, name := range []string{"raw", "sdk", "stubborn"} {
		cfgs = append(cfgs, of(name, filepath.Join(dir, name), `{"do":"`+strings.TrimPrefix(name, "raw")+`"}`, nil))
	}
	h.Apply(cfgs, nothingYet{})
	for {
		line := ""
		for _, s := range h.Statuses() {
			if s.PID != 0 {
				line += strconv.Itoa(s.PID) + " "
			}
		}
		if len(strings.Fields(line)) == len(cfgs) {
			fmt.Println(line)
			select {}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestOrphans: kill -9 of the host ends its plugins, even one that ignores all but that.
func TestOrphans(t *testing.T) {
	dir := plugins(t)
	for _, name := range []string{"raw", "sdk", "stubborn"} {
		install(t, dir, name)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	for range 3 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), hostDir+"="+dir, "TMPDIR="+temp)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var pids [3]int
		if _, err := fmt.Fscan(out, &pids[0], &pids[1], &pids[2]); err != nil {
			t.Error(err)
		}
		for _, pid := range pids {
			if gone(pid) {
				t.Errorf("process %d does not run", pid)
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		for _, pid := range pids {
			eventually(t, "end of the plugins", func() bool { return gone(pid) || zombie(pid) })
		}
	}

	// What the killed hosts have left goes at the next start. What is in use, somebody's or new
	// stays.
	t.Setenv("TMPDIR", temp)
	s, err := newStarter()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	other := filepath.Join(temp, "busylamp-notes")
	if err := errors.Join(os.Mkdir(other, 0o700), os.WriteFile(filepath.Join(other, "mine"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	left := func() int {
		dirs, _ := filepath.Glob(filepath.Join(temp, "busylamp-*"))
		return len(dirs)
	}
	if n := left(); n != 5 {
		t.Errorf("%d directories, want those of three killed hosts and two", n)
	}
	removeStale(temp, time.Minute)
	if n := left(); n != 5 {
		t.Errorf("new ones were removed: %d are left", n)
	}
	removeStale(temp, 0)
	if n := left(); n != 2 {
		t.Errorf("%d directories are left", n)
	}
	if _, err := os.Stat(s.dir); err != nil {
		t.Error(err)
	}
}
