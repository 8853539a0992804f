package pluginhost

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/plugin"
)

// TestMain is also the plugins' main, which the name of the file tells from each other.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(plugin.Handshake.MagicCookieKey) != "":
		behave(filepath.Base(os.Args[0]))
	case os.Getenv(hostDir) != "":
		beHost(os.Getenv(hostDir))
	default:
		goleak.VerifyTestMain(m)
	}
}

// patience is how long a test waits for what has to come.
const patience = 20 * time.Second

// heard is one report with its source.
type heard struct {
	source int
	busylamp.SourceReport
}

// listener is a sink.
type listener struct {
	t   *testing.T
	all chan heard
}

func listen(t *testing.T) *listener { return &listener{t: t, all: make(chan heard, 10_000)} }

// Report is part of Sink.
func (l *listener) Report(source int, r busylamp.SourceReport) { l.all <- heard{source, r} }

// until returns the first report of a source that is right. Reports of others are dropped.
func (l *listener) until(source int, what string, right func(busylamp.SourceReport) bool) busylamp.SourceReport {
	l.t.Helper()
	late := time.After(patience)
	for {
		select {
		case h := <-l.all:
			if h.source == source && right(h.SourceReport) {
				return h.SourceReport
			}
		case <-late:
			l.t.Fatalf("source %d: no %s", source, what)
		}
	}
}

func (l *listener) up(source int) busylamp.SourceInfo {
	l.t.Helper()
	return *l.until(source, "Up", func(r busylamp.SourceReport) bool { return r.Up != nil }).Up
}

func (l *listener) down(source int, why string) {
	l.t.Helper()
	if r := l.until(source, "Down", func(r busylamp.SourceReport) bool { return r.Down != "" }); !strings.Contains(r.Down, why) {
		l.t.Errorf("source %d is down for %q, want %q", source, r.Down, why)
	}
}

// claim returns a statement about somebody.
func (l *listener) claim(source int, who busylamp.Presentity) (out busylamp.Statement) {
	l.t.Helper()
	l.until(source, "statement about "+string(who), func(r busylamp.SourceReport) bool {
		for _, s := range r.Statements {
			if s.Presentity == who {
				out = s
				return true
			}
		}
		return false
	})
	return out
}

// quiet fails if anything but of the kinds let through has been reported.
func (l *listener) quiet(let func(heard) bool) {
	l.t.Helper()
	for {
		select {
		case h := <-l.all:
			if !let(h) {
				l.t.Errorf("unexpected report of source %d: %+v", h.source, h.SourceReport)
			}
		default:
			return
		}
	}
}

// notebook keeps what was logged.
type notebook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (n *notebook) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.buf.Write(p)
}

func (n *notebook) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.buf.String()
}

func (n *notebook) has(t *testing.T, text string) {
	t.Helper()
	eventually(t, "log line "+text, func() bool { return strings.Contains(n.String(), text) })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for late := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("no %s", what)
		}
	}
}

// quick is a timing for tests: starts as slow as a loaded machine may need, and no patience
// with what fails.
func quick() timing {
	t := defaultTiming()
	t.end, t.ping, t.first, t.most = time.Second, 200*time.Millisecond, time.Millisecond, 4*time.Millisecond
	return t
}

func newHost(t *testing.T, timing timing) *Host {
	h := New()
	h.timing = timing
	t.Cleanup(h.Close)
	return h
}

// plugins is a directory as plugins.dir.
func plugins(t *testing.T) string {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// install puts the test program into a directory, under a name that says what it is to do.
func install(t *testing.T, dir, name string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.Link(self, path); err == nil {
		return path
	} else if !errors.Is(err, syscall.EXDEV) {
		t.Fatal(err)
	}
	in, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// script writes a plugin that is a script.
func script(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// of is the configuration of a plugin's file.
func of(name, path, settings string, log *notebook) Config {
	cfg := Config{Name: name, Path: path, AllowUnpinned: true, MTLS: true, Settings: []byte(settings)}
	if log != nil {
		cfg.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})).With("source", name)
	}
	return cfg
}

func watch(who ...busylamp.Presentity) busylamp.WatchWork {
	w := busylamp.WatchWork{}
	for _, p := range who {
		w.Watch = append(w.Watch, busylamp.Target{Presentity: p})
	}
	return w
}

// gone tells whether a process is no more, not even as a zombie.
func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func pidOf(t *testing.T, h *Host, i int) int {
	t.Helper()
	pid := h.Statuses()[i].PID
	if pid == 0 {
		t.Fatalf("source %d runs no process: %+v", i, h.Statuses()[i])
	}
	return pid
}
