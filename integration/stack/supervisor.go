package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// Supervisor does with a sidecar what systemd does with WatchdogSec= and Restart=always: it
// listens at the NOTIFY_SOCKET, and one that has said READY=1 and then gives no sign of
// life for too long is killed and started again.
type Supervisor struct {
	// Restarts tells of each, once the new sidecar has said READY=1.
	Restarts chan Restart

	sidecar  *Sidecar
	watchdog time.Duration
	conn     *net.UnixConn
	done     chan struct{}
	mu       sync.Mutex
	heard    []time.Time // signs of life
	err      error
}

// Restart is what became of a sidecar that was silent.
type Restart struct {
	Heard  time.Time // its last sign of life
	Killed time.Time
	Ready  time.Time // the next one was
}

// maxRestarts bounds what nobody has taken from Restarts.
const maxRestarts = 64

// Supervise starts a sidecar under a supervisor, which leaves the sidecar to nobody else.
func (s *Stack) Supervise(ctx context.Context, c SidecarConfig, watchdog time.Duration) (*Sidecar, *Supervisor, error) {
	v := &Supervisor{Restarts: make(chan Restart, maxRestarts), watchdog: watchdog, done: make(chan struct{})}
	name := s.file("notify")
	var err error
	if v.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"}); err != nil {
		return nil, nil, fmt.Errorf("supervisor: %w", err)
	}
	c.Env = append(c.Env, "NOTIFY_SOCKET="+name, "WATCHDOG_USEC="+strconv.FormatInt(watchdog.Microseconds(), 10))
	if v.sidecar, err = s.Sidecar(ctx, c); err != nil {
		_ = v.conn.Close()
		return nil, nil, err
	}
	go v.run()
	s.onClose(func() error {
		err := v.conn.Close()
		<-v.done
		return err
	})
	return v.sidecar, v, nil
}

// Heard returns when the signs of life came.
func (v *Supervisor) Heard() []time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]time.Time(nil), v.heard...)
}

// Err returns why the supervisor gave up, nil if it did not.
func (v *Supervisor) Err() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.err
}

func (v *Supervisor) run() {
	defer close(v.done)
	var ready, alive time.Time
	var now *Restart // under way
	b := make([]byte, 4096)
	for {
		var deadline time.Time // systemd's own start has another limit
		if !ready.IsZero() {
			deadline = alive.Add(v.watchdog)
		}
		_ = v.conn.SetReadDeadline(deadline)
		n, err := v.conn.Read(b)
		at := time.Now()
		switch {
		case err == nil:
			if bytes.Contains(b[:n], []byte("WATCHDOG=1")) {
				alive = at
				v.mu.Lock()
				v.heard = append(v.heard, at)
				v.mu.Unlock()
			}
			if bytes.Contains(b[:n], []byte("READY=1")) {
				ready = at
				if now != nil {
					now.Ready = at
					v.Restarts <- *now
					now = nil
				}
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			v.sidecar.Kill() // as the unit has systemd do (WatchdogSignal)
			now, ready = &Restart{Heard: alive, Killed: at}, time.Time{}
			if err := v.sidecar.Start(); err != nil {
				v.mu.Lock()
				v.err = err
				v.mu.Unlock()
				return
			}
		default:
			return
		}
	}
}
