package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/busylamp/busylamp"
)

// notifier tells a service manager how the sidecar is, by the protocol of sd_notify(3):
// datagrams of NAME=value lines to the socket that NOTIFY_SOCKET names. Without one
// nothing is told. What its watchdog waits for is sent only while the engine answers, so
// that a sidecar whose engine hangs is restarted as one whose process is dead.
type notifier struct {
	conn   net.Conn      // nil: nobody wants to know
	period time.Duration // between two signs of life
	log    *slog.Logger
}

const (
	statusPeriod = 10 * time.Second // where there is no watchdog
	leastPeriod  = 20 * time.Millisecond
	tellTime     = 200 * time.Millisecond // a manager that does not read holds nobody up
)

// newNotifier reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and takes them out of
// the process's environment: what the sidecar starts is not to speak for it.
func newNotifier(environ []string, log *slog.Logger) *notifier {
	n := &notifier{period: statusPeriod, log: log}
	env := map[string]string{}
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		_ = os.Unsetenv(name) // fails for no such name
	}
	socket := env["NOTIFY_SOCKET"]
	if socket == "" {
		return n
	}
	conn, err := net.Dial("unixgram", socket) // "@" begins an abstract one
	if err != nil {
		log.Warn("the service manager cannot be told how the sidecar is", "NOTIFY_SOCKET", socket, "error", err)
		return n
	}
	n.conn = conn
	pid := env["WATCHDOG_PID"]
	usec, err := strconv.ParseInt(env["WATCHDOG_USEC"], 10, 64)
	if err == nil && usec > 0 && usec <= time.Hour.Microseconds() && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.period = max(time.Duration(usec)*time.Microsecond/2, leastPeriod)
	}
	return n
}

func (n *notifier) close() {
	if n.conn != nil {
		_ = n.conn.Close()
	}
}

// tell sends lines. A manager that does not hear them does what it does to the silent.
func (n *notifier) tell(lines ...string) {
	if n.conn == nil {
		return
	}
	err := n.conn.SetWriteDeadline(time.Now().Add(tellTime))
	if err == nil {
		_, err = n.conn.Write([]byte(strings.Join(lines, "\n")))
	}
	if err != nil {
		n.log.Debug("the service manager was not told", "lines", lines, "error", err)
	}
}

// alive is for steps between two engines, all of them bounded.
func (n *notifier) alive() { n.tell("WATCHDOG=1") }

// reloading is to be followed by a ready. Neither is a sign of life: only the engine gives one.
func (n *notifier) reloading() {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return // it is what orders the two
	}
	n.tell("RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(t.Nano()/1000, 10))
}

func (n *notifier) ready(status string) { n.tell("READY=1", "STATUS="+status) }

// watch says that the sidecar is ready as soon as the engine answers, then at every period
// that it still does, and at last, unless another engine takes over, that it stops. ask
// has the engine answer with a line for people.
func (n *notifier) watch(ctx context.Context, ask func(context.Context) (string, error)) {
	if n.conn == nil {
		return
	}
	every := time.NewTicker(n.period)
	defer every.Stop()
	tell := func(status string) { n.tell("READY=1", "STATUS="+status, "WATCHDOG=1") }
	for {
		limited, cancel := context.WithTimeout(ctx, n.period)
		status, err := ask(limited)
		cancel()
		switch {
		case err == nil:
			tell(status)
			tell = func(status string) { n.tell("WATCHDOG=1", "STATUS="+status) }
		case ctx.Err() == nil:
			n.log.Warn("the engine does not answer, and the watchdog is not told otherwise", "error", err)
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), busylamp.ErrHandOver) {
				n.tell("STOPPING=1", "STATUS=stopping")
			}
			return
		}
	}
}

// status has the engine say how it is, in one line.
func (s *sidecar) status(ctx context.Context) (string, error) {
	var calls, people, inStep int
	err := s.loop.Do(ctx, func(e *busylamp.Engine) {
		stats := e.Stats()
		calls, people = stats.Calls, stats.People
		for _, p := range e.ProxyStatuses() {
			if p.InStep {
				inStep++
			}
		}
	})
	if err != nil {
		return "", err
	}
	line := fmt.Sprintf("%d calls, %d presentities; %d of %d proxies in step", calls, people, inStep, len(s.cfg.Kamailio))
	if _, err := s.state.Failing(); err != nil {
		line += "; state not kept"
	}
	return line, nil
}
