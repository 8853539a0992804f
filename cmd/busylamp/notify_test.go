package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/busylamp/busylamp"
)

// managerSocket is a service manager's socket.
type managerSocket struct {
	t    *testing.T
	path string
	conn *net.UnixConn
}

func newManagerSocket(t *testing.T) *managerSocket {
	t.Helper()
	m := &managerSocket{t: t, path: filepath.Join(t.TempDir(), "notify")}
	var err error
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.conn.Close() })
	return m
}

// next returns the lines of the next message, nil when none comes in time.
func (m *managerSocket) next(within time.Duration) map[string]string {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		m.t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := m.conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err != nil {
		m.t.Fatal(err)
	}
	lines := map[string]string{}
	for line := range strings.SplitSeq(string(b[:n]), "\n") {
		k, v, ok := strings.Cut(line, "=")
		if !ok {
			m.t.Errorf("said %q", line)
		}
		lines[k] = v
	}
	return lines
}

// waits returns the next message that has a name, and counts the signs of life before.
func (m *managerSocket) waits(name string) (lines map[string]string, pings int) {
	m.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		switch lines := m.next(time.Second); {
		case lines[name] != "":
			return lines, pings
		case lines["WATCHDOG"] != "":
			pings++
		}
	}
	m.t.Fatalf("no %s= within 20 s", name)
	return nil, 0
}

// TestNotify: what a service manager is told from the start, by reloads that go well and
// that do not, to the end.
func TestNotify(t *testing.T) {
	m := newManagerSocket(t)
	t.Setenv("NOTIFY_SOCKET", m.path) // as the process has it
	environ := []string{"NOTIFY_SOCKET=" + m.path, "WATCHDOG_USEC=200000", "WATCHDOG_PID=" + strconv.Itoa(os.Getpid())}
	s := &instance{t: t, path: filepath.Join(t.TempDir(), "busylamp.yaml"), code: make(chan int, 1)}
	admin, dir := freeAddr(t), t.TempDir()
	s.write(admin, dir, "")
	go func() { s.code <- run([]string{"run", "-c", s.path}, environ, io.Discard, &s.log) }()

	if lines, _ := m.waits("READY"); lines["STATUS"] != "0 calls, 0 presentities; 0 of 1 proxies in step" {
		t.Errorf("the first status is %q", lines["STATUS"])
	}
	if left, ok := os.LookupEnv("NOTIFY_SOCKET"); ok {
		t.Errorf("NOTIFY_SOCKET=%s would be inherited", left)
	}
	s.healthy(admin)
	for range 3 {
		if lines := m.next(time.Second); lines["WATCHDOG"] != "1" || lines["STATUS"] == "" {
			t.Fatalf("said %v where a sign of life was due", lines)
		}
	}
	reload := func(more string) map[string]string {
		s.write(admin, dir, more)
		s.signal(syscall.SIGHUP)
		lines, _ := m.waits("RELOADING")
		if usec, err := strconv.ParseInt(lines["MONOTONIC_USEC"], 10, 64); err != nil || usec <= 0 {
			t.Errorf("RELOADING=1 with MONOTONIC_USEC=%q", lines["MONOTONIC_USEC"])
		}
		lines, _ = m.waits("READY")
		return lines
	}
	if lines := reload("sides: sideways\n"); !strings.Contains(lines["STATUS"], "could not be reloaded") {
		t.Errorf("after a bad configuration the status is %q", lines["STATUS"])
	}
	if lines := reload("sides: caller\n"); !strings.Contains(lines["STATUS"], "0 calls") {
		t.Errorf("after a reload the status is %q", lines["STATUS"])
	}
	s.signal(syscall.SIGTERM)
	if _, pings := m.waits("STOPPING"); pings > 100 {
		t.Errorf("%d signs of life in the end", pings)
	}
	s.ends(0)
	for lines := m.next(50 * time.Millisecond); lines != nil; lines = m.next(50 * time.Millisecond) {
		if lines["READY"] != "" || lines["STOPPING"] != "" {
			t.Errorf("said %v after STOPPING=1", lines)
		}
	}
}

// TestNotifyHungEngine: the process is well and its engine is not. The watchdog hears
// nothing until the engine answers again.
func TestNotifyHungEngine(t *testing.T) {
	const period = 100 * time.Millisecond
	m := newManagerSocket(t)
	environ := []string{"NOTIFY_SOCKET=" + m.path, "WATCHDOG_USEC=" + strconv.FormatInt((2*period).Microseconds(), 10)}
	n := newNotifier(environ, quietLog())
	defer n.close()
	e, err := busylamp.New(busylamp.Config{Directory: newDirectory(smallConfig())})
	if err != nil {
		t.Fatal(err)
	}
	loop := busylamp.NewLoop(e, busylamp.LoopConfig{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{}, 2)
	go func() { loop.Run(ctx); ended <- struct{}{} }()
	go func() {
		n.watch(ctx, func(ctx context.Context) (string, error) { return "", loop.Do(ctx, func(*busylamp.Engine) {}) })
		ended <- struct{}{}
	}()
	m.waits("READY")
	m.waits("WATCHDOG")

	hung, release := make(chan struct{}), make(chan struct{})
	go loop.Do(ctx, func(*busylamp.Engine) { close(hung); <-release })
	<-hung
	for lines := m.next(2 * period); lines != nil; lines = m.next(2 * period) { // what was on its way
		if lines["READY"] != "" {
			t.Errorf("said %v", lines)
		}
	}
	if lines := m.next(10 * period); lines != nil {
		t.Errorf("said %v while the engine hung", lines)
	}
	close(release)
	if lines := m.next(20 * time.Second); lines["WATCHDOG"] != "1" {
		t.Errorf("said %v when the engine answered again", lines)
	}
	cancel()
	<-ended
	<-ended
}

// TestNotifyPeriod: half of what the watchdog waits for, if that is meant for us.
func TestNotifyPeriod(t *testing.T) {
	m := newManagerSocket(t)
	mine := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"10000000", mine, 5 * time.Second},
		{"10000000", "", 5 * time.Second},
		{"10000000", "1", statusPeriod},
		{"", "", statusPeriod},
		{"0", mine, statusPeriod},
		{"-5", mine, statusPeriod},
		{"soon", mine, statusPeriod},
		{"99999999999999999999", mine, statusPeriod},
		{"1", mine, leastPeriod},
	} {
		n := newNotifier([]string{"NOTIFY_SOCKET=" + m.path, "WATCHDOG_USEC=" + c.usec, "WATCHDOG_PID=" + c.pid}, quietLog())
		if n.conn == nil || n.period != c.want {
			t.Errorf("WATCHDOG_USEC=%s WATCHDOG_PID=%s: every %v, want %v", c.usec, c.pid, n.period, c.want)
		}
		n.close()
	}
}

// TestNotifyNobody: without a service manager, or with one that is gone, nothing is told
// and nothing fails or waits.
func TestNotifyNobody(t *testing.T) {
	for _, environ := range [][]string{nil, {"NOTIFY_SOCKET=" + filepath.Join(t.TempDir(), "gone")}} {
		n := newNotifier(environ, quietLog())
		n.reloading()
		n.alive()
		n.watch(t.Context(), func(context.Context) (string, error) { t.Error("asked"); return "", nil })
		n.close()
	}
	m := newManagerSocket(t) // and never reads
	n := newNotifier([]string{"NOTIFY_SOCKET=@" + filepath.Base(t.TempDir()), "WATCHDOG_USEC=1000000"}, quietLog())
	n.close()
	n = newNotifier([]string{"NOTIFY_SOCKET=" + m.path}, quietLog())
	defer n.close()
	began := time.Now()
	for range 20 {
		n.alive()
	}
	if d := time.Since(began); d > 20*tellTime+time.Second {
		t.Errorf("20 messages to a manager that does not read took %v", d)
	}
}

// TestNotifyLateAnswers: an engine that answers within the period is alive, however late.
func TestNotifyLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		n := &notifier{conn: here, period: 5 * time.Second, log: quietLog()}
		ctx, cancel := context.WithCancelCause(t.Context())
		began := time.Now()
		var last, worst time.Duration
		heard := make(chan struct{})
		go func() {
			defer close(heard)
			b := make([]byte, 4096)
			for {
				k, err := there.Read(b)
				if err != nil || strings.HasPrefix(string(b[:k]), "STOPPING") {
					return
				}
				now := time.Since(began)
				worst, last = max(worst, now-last), now
			}
		}()
		stop := time.AfterFunc(2*time.Minute, func() { cancel(nil) })
		defer stop.Stop()
		late := 0
		n.watch(ctx, func(context.Context) (string, error) {
			late++
			time.Sleep(time.Duration(late%2) * 4900 * time.Millisecond)
			return "", nil
		})
		<-heard
		here.Close()
		there.Close()
		if worst > 10*time.Second || late < 20 {
			t.Errorf("%d answers, and a gap of %v where 10 s kill", late, worst)
		}
	})
}

// TestUnit: the systemd unit runs what there is.
func TestUnit(t *testing.T) {
	text, err := os.ReadFile("busylamp.service")
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(k, "#") {
			settings[k] = v
		}
	}
	for _, key := range []string{"ExecStart"} {
		words := strings.Fields(settings[key])
		if len(words) != 4 || filepath.Base(words[0]) != "busylamp" || words[3] != defaultPath {
			t.Fatalf("%s=%s", key, settings[key])
		}
		words[3] = filepath.Join(t.TempDir(), "none.yaml")
		if code := run(words[1:], nil, io.Discard, io.Discard); code != 1 { // 2: no such command or flag
			t.Errorf("%s: exit code %d without a configuration, want 1", key, code)
		}
	}
	if settings["Type"] != "notify" || settings["WatchdogSec"] != "10" || settings["Restart"] != "always" {
		t.Errorf("Type=%s WatchdogSec=%s Restart=%s", settings["Type"], settings["WatchdogSec"], settings["Restart"])
	}
	if dir := "/var/lib/" + settings["StateDirectory"]; dir != defaults().State {
		t.Errorf("StateDirectory is %s, and state: %s by default", dir, defaults().State)
	}
}
