package pluginhost

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/busylamp/busylamp"
)

// TestFailure: what the system says of a file is final only where somebody has to mend it.
func TestFailure(t *testing.T) {
	t.Parallel()
	var no refusal
	for _, c := range []struct {
		errno         syscall.Errno
		refused, away bool
	}{
		{syscall.EACCES, true, false}, {syscall.EPERM, true, false}, {syscall.ELOOP, true, false}, {syscall.ENOEXEC, true, false},
		{syscall.ENOENT, false, true},
		{syscall.EMFILE, false, false}, {syscall.ENFILE, false, false}, {syscall.EIO, false, false}, {syscall.ETXTBSY, false, false},
		{syscall.ENOMEM, false, false}, {syscall.EAGAIN, false, false}, {syscall.ESTALE, false, false},
	} {
		err := failure(&fs.PathError{Op: "open", Path: "/x", Err: c.errno})
		if errors.As(err, &no) != c.refused || isAbsence(err) != c.away || !errors.Is(err, c.errno) {
			t.Errorf("%v: refused %v, away %v", err, errors.As(err, &no), isAbsence(err))
		}
	}
}

// TestStreak: a file that is away costs none of the tries that it has when it is back.
func TestStreak(t *testing.T) {
	t.Parallel()
	timing := defaultTiming()
	away, broken := absence{errors.New("away")}, errors.New("broken")
	var s streak
	for range 100 {
		if n := s.add(away); !timing.hopeful(n, away) {
			t.Fatalf("given up after %d failures", n)
		}
	}
	for i := 1; i <= timing.failures; i++ {
		if n := s.add(broken); n != i || timing.hopeful(n, broken) != (i < timing.failures) {
			t.Errorf("after the file was away: %d failures, want %d, %v", n, i, timing.hopeful(n, broken))
		}
	}
	if timing.hopeful(1, refuse("no")) {
		t.Error("a refusal is tried again")
	}
}

// TestAway: a plugin whose file is missing is looked for without end, and runs when it is
// there; that is told a few times.
func TestAway(t *testing.T) {
	t.Parallel()
	log := &notebook{}
	timing := quick()
	timing.failures = 3
	l := listen(t)
	h := newHost(t, timing)
	dir := plugins(t)
	path := install(t, dir, "raw")
	h.Apply([]Config{of("one", path, "{}", log)}, l)
	l.up(0)
	aside := path + ".old"
	if err := os.Rename(path, aside); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pidOf(t, h, 0), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.down(0, "killed")
	eventually(t, "ten tries", func() bool { return h.Statuses()[0].Restarts > 10 })
	if s := h.Statuses()[0]; s.State == parked || s.State == refused || !strings.Contains(s.Error, "does not exist: put the plugin there") {
		t.Errorf("status: %+v", s)
	}
	if err := os.Rename(aside, path); err != nil {
		t.Fatal(err)
	}
	l.up(0)
	told := 0
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "level=WARN") && strings.Contains(line, "does not exist") {
			told++
		}
	}
	if told != timing.failures {
		t.Errorf("told %d times", told)
	}
}

// TestReplacedLater: a reload while the file is away for a moment takes effect when it is back.
func TestReplacedLater(t *testing.T) {
	t.Parallel()
	log := &notebook{}
	l := listen(t)
	h := newHost(t, quick())
	path := install(t, plugins(t), "raw")
	h.Apply([]Config{of("one", path, "{}", log)}, l)
	l.up(0)
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	h.Apply([]Config{of("one", path, `{"do":"blip"}`, log)}, l)
	log.has(t, "the plugin cannot be replaced, the one that runs goes on")
	h.Source(0).Watch(watch(alice))
	l.claim(0, alice)
	if err := os.Rename(path+".old", path); err != nil {
		t.Fatal(err)
	}
	l.until(0, "claim of the new one", func(r busylamp.SourceReport) bool {
		return len(r.Statements) > 0 && r.Statements[0].Details.Note == "after the failure"
	})
}
