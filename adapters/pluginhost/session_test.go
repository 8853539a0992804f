package pluginhost

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

const alice, bob = busylamp.Presentity("sip:alice@example.com"), busylamp.Presentity("sip:bob@example.com")

// TestSession: a plugin says what it is, is asked, and answers; with it ends its process.
func TestSession(t *testing.T) {
	t.Parallel()
	log := &notebook{}
	l := listen(t)
	h := newHost(t, quick())
	cfg := of("one", install(t, plugins(t), "raw"), `{"do":""}`, log)
	digest, err := Digest(cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	cfg.SHA256, cfg.AllowUnpinned = strings.ToUpper(digest), false
	if err := h.Apply([]Config{cfg}, l); err != nil {
		t.Fatal(err)
	}
	info := l.up(0)
	if info.Batch != 5 || info.Endpoints != 2 || info.Unasked || info.Serves == nil || !info.Serves(alice) || info.Serves("sip:a@example.org") {
		t.Errorf("info is %+v", info)
	}
	h.Source(0).Watch(busylamp.WatchWork{Watch: []busylamp.Target{{Presentity: alice, Endpoint: 1, UPN: "al@ex"}}, Unwatch: []busylamp.Presentity{bob}})
	if s := l.claim(0, bob); s.Details.Note != "unwatched" {
		t.Errorf("bob: %+v", s)
	}
	r := l.until(0, "subscription", func(r busylamp.SourceReport) bool { return len(r.Subscriptions) > 0 })
	if s := r.Subscriptions[0]; s.Presentity != alice || s.State != busylamp.Subscribed {
		t.Errorf("subscription: %+v", s)
	}
	if s := r.Statements[0]; s.State != busylamp.Busy || s.Details.Note != "endpoint 1 upn al@ex in raw" {
		t.Errorf("statement: %+v", s)
	}
	s := h.Statuses()[0]
	if s.State != running || s.Version != "1.2.3" || s.Kind != "raw" || s.Digest != digest || s.Restarts != 0 || s.Error != "" || s.Name != "one" {
		t.Errorf("status: %+v", s)
	}
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", s.PID)); err != nil || string(comm) != "raw\n" {
		t.Errorf("ps shows %q, %v", comm, err)
	}
	h.Close()
	if !gone(s.PID) {
		t.Error("the process outlived its host")
	}
	log.has(t, "msg=\"the plugin runs\" source=one kind=raw version=1.2.3")
}

// TestSDK: the same by the SDK, whose log arrives in ours.
func TestSDK(t *testing.T) {
	t.Parallel()
	for _, mtls := range []bool{true, false} {
		log := &notebook{}
		l := listen(t)
		h := newHost(t, quick())
		cfg := of("sdk", install(t, plugins(t), "sdk"), "", log)
		cfg.MTLS = mtls
		h.Apply([]Config{cfg}, l)
		if info := l.up(0); !info.Unasked || info.Batch != 1 || info.Serves != nil {
			t.Errorf("info is %+v", info)
		}
		h.Source(0).Watch(watch(alice))
		if s := l.claim(0, alice); s.State != busylamp.DoNotDisturb {
			t.Errorf("%+v", s)
		}
		log.has(t, `level=WARN msg="the sdk runs" source=sdk`)
		h.Close()
		l.quiet(func(heard) bool { return false })
	}
}

// TestCrash: an exit is seen at once and told with its reason, the plugin is started again,
// and its neighbour never notices.
func TestCrash(t *testing.T) {
	t.Parallel()
	dir := plugins(t)
	path := install(t, dir, "raw")
	l := listen(t)
	h := newHost(t, quick())
	h.Apply([]Config{of("crashes", path, "{}", nil), of("stays", path, "{}", nil)}, l)
	l.up(0)
	eventually(t, "neighbour", func() bool { return h.Statuses()[1].State == running })
	neighbour := pidOf(t, h, 1)
	for range 3 {
		pid := pidOf(t, h, 0)
		h.Source(0).Watch(watch("sip:die@example.com"))
		l.down(0, "the process ended (exit status 7)")
		if !gone(pid) {
			t.Error("the process is still there")
		}
		h.Source(0).Watch(watch(alice)) // nobody to ask: forgotten
		l.up(0)
		eventually(t, "new process", func() bool { return h.Statuses()[0].PID != 0 })
		h.Source(0).Watch(watch(bob))
		l.claim(0, bob)
	}
	if s := h.Statuses()[0]; s.Restarts != 3 || !strings.Contains(s.Error, "exit status 7") {
		t.Errorf("status: %+v", s)
	}
	if pidOf(t, h, 1) != neighbour {
		t.Error("the neighbour has another process")
	}
	l.quiet(func(x heard) bool { return x.source == 1 && x.Down == "" && x.Up == nil })
}

// TestKilled: so is a kill from outside.
func TestKilled(t *testing.T) {
	t.Parallel()
	l := listen(t)
	h := newHost(t, quick())
	h.Apply([]Config{of("one", install(t, plugins(t), "raw"), "{}", nil)}, l)
	l.up(0)
	if err := syscall.Kill(pidOf(t, h, 0), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.down(0, "signal: killed")
	l.up(0)
}

// TestHang: a process that is stopped is found by its pings, and killed.
func TestHang(t *testing.T) {
	t.Parallel()
	l := listen(t)
	h := newHost(t, quick())
	h.Apply([]Config{of("one", install(t, plugins(t), "raw"), "{}", nil)}, l)
	l.up(0)
	pid := pidOf(t, h, 0)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	l.down(0, "it hangs: 3 pings in a row were not answered within 200ms")
	if !gone(pid) {
		t.Error("the hung process is still there")
	}
	l.up(0)
}

// TestFailing: what a session can die of is told in words.
func TestFailing(t *testing.T) {
	t.Parallel()
	timing := quick()
	timing.rate, timing.burst, timing.flood = 1000, 1000, 300*time.Millisecond
	timing.first, timing.most = time.Hour, time.Hour
	path := install(t, plugins(t), "raw")
	for _, c := range []struct{ do, want string }{
		{"end", "it ended its stream while it was wanted"},
		{"error", "the system is too old"},
		{"panic", "the process ended (exit status 2), saying: panic: what a pity"},
		{"exit", "the process ended (exit status 3), saying: out of ideas"},
		{"flood", "a flood: more than 1000 claims a second for 300ms"},
		{"emptyflood", "a flood"},
		{"flap", "a flood: more than 1 change of the connector a second for 300ms"},
		{"big", "a message over 1048576 bytes: it has to be divided"},
	} {
		t.Run(c.do, func(t *testing.T) {
			t.Parallel()
			l := listen(t)
			h := newHost(t, timing)
			h.Apply([]Config{of("one", path, `{"do":"`+c.do+`"}`, nil)}, l)
			l.up(0)
			l.down(0, c.want)
			if s := h.Statuses()[0]; !strings.HasPrefix(s.State, restarting) || s.PID != 0 || !strings.Contains(s.Error, c.want) {
				t.Errorf("status: %+v", s)
			}
		})
	}
}

// TestOverflow: who takes nothing of what it is asked is started anew; Watch never waits.
func TestOverflow(t *testing.T) {
	t.Parallel()
	l := listen(t)
	h := newHost(t, quick())
	h.Apply([]Config{of("one", install(t, plugins(t), "raw"), `{"do":"deaf"}`, nil)}, l)
	l.up(0)
	w := watch()
	for i := range 1000 {
		w.Watch = append(w.Watch, busylamp.Target{Presentity: busylamp.Presentity(fmt.Sprintf("sip:%0200d@example.com", i))})
	}
	for range 2 + maxWaiting/len(w.Watch)*2 {
		h.Source(0).Watch(w)
	}
	l.down(0, "it does not take what it is asked: 65536 presentities wait")
	l.up(0)
}

// TestStubborn: one that does not end by itself is ended, with its children, when its time
// is up.
func TestStubborn(t *testing.T) {
	t.Parallel()
	l := listen(t)
	h := newHost(t, quick())
	h.Apply([]Config{of("one", install(t, plugins(t), "stubborn"), `{"do":"stubborn"}`, nil)}, l)
	l.up(0)
	pid, child := pidOf(t, h, 0), 0
	if _, err := fmt.Sscan(l.claim(0, "sip:child@example.com").Details.Note, &child); err != nil {
		t.Fatal(err)
	}
	h.Close()
	if !gone(pid) {
		t.Error("the process is still there")
	}
	eventually(t, "end of its child", func() bool { return gone(child) || zombie(child) })
}

// zombie tells whether a process waits for its parent (a container's first one may never ask).
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// TestTakeBack: what a source withdraws because it is ended is not taken for the truth.
func TestTakeBack(t *testing.T) {
	t.Parallel()
	l := listen(t)
	h := newHost(t, quick())
	path := install(t, plugins(t), "raw")
	h.Apply([]Config{of("one", path, `{"do":"takeback"}`, nil)}, l)
	l.up(0)
	h.Apply([]Config{of("one", path, `{"do":""}`, nil)}, l)
	l.until(0, "Down", func(r busylamp.SourceReport) bool {
		if len(r.Statements) > 0 {
			t.Errorf("it said at its end: %+v", r.Statements)
		}
		return r.Down != ""
	})
	l.up(0)
}

// TestEnvironment: a plugin has nothing of ours, neither variables nor files.
func TestEnvironment(t *testing.T) {
	inherited, err := os.Create(filepath.Join(t.TempDir(), "secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	fd, err := syscall.Dup(int(inherited.Fd())) // this one a child would have
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	t.Setenv("BUSYLAMP_PUBLISHERS_0_PASSWORD", "secret")
	l := listen(t)
	h := newHost(t, quick())
	h.Apply([]Config{of("one", install(t, plugins(t), "raw"), `{"do":"environment"}`, nil)}, l)
	l.up(0)
	var names []string
	for done := false; !done; {
		r := l.until(0, "statement", func(r busylamp.SourceReport) bool { return len(r.Statements) > 0 })
		for _, s := range r.Statements {
			name, value, _ := strings.Cut(s.Details.Note, "=")
			names = append(names, name)
			if strings.Contains(value, "secret") {
				t.Errorf("it has %s=%s", name, value)
			}
			done = done || s.Presentity == "sip:done@example.com"
		}
	}
	allowed := " PATH LANG TMPDIR HOME BUSYLAMP_LOG_LEVEL BUSYLAMP_PLUGIN PLUGIN_MIN_PORT PLUGIN_MAX_PORT PLUGIN_PROTOCOL_VERSIONS PLUGIN_CLIENT_CERT PLUGIN_UNIX_SOCKET_DIR "
	for _, name := range names {
		if !strings.Contains(allowed, " "+name+" ") && name != "" {
			t.Errorf("it has %s", name)
		}
	}
	if len(names) < 8 {
		t.Errorf("it has only %q", names)
	}
}
