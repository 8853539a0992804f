package pluginhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/plugin"
)

// unit is one source of the configuration, with the processes that serve it, one after the
// other.
type unit struct {
	host    *Host
	index   int         // in the configuration, -1 for none any more; guarded by the outlet
	up      atomic.Bool // the sink believes that it runs
	wake    chan struct{}
	ignored atomic.Uint64

	mu      sync.Mutex
	want    Config
	session *session // nil while none runs
	tried   string   // the digest of the file at the latest start, "" for none
	starts  int
	status  Status
	retryAt time.Time // of a state that is restarting
}

func newUnit(h *Host, index int, cfg Config) *unit {
	return &unit{host: h, index: index, want: cfg, wake: make(chan struct{}, 1),
		status: Status{Name: cfg.Name, Path: cfg.Path, State: starting, Since: time.Now()}}
}

// same tells whether two configurations make the same plugin.
func (c Config) same(d Config) bool {
	return c.Name == d.Name && c.Path == d.Path && c.SHA256 == d.SHA256 && c.AllowUnpinned == d.AllowUnpinned &&
		c.MTLS == d.MTLS && bytes.Equal(c.Settings, d.Settings) && slices.Equal(c.OwnTuples, d.OwnTuples)
}

// apply gives the unit its configuration anew. What is the same goes on.
func (u *unit) apply(cfg Config) {
	digest, _ := Digest(cfg.Path) // its error shows at the start
	u.mu.Lock()
	defer u.mu.Unlock()
	same := u.want.same(cfg) && (digest == u.tried || u.starts == 0)
	u.want = cfg
	// What was refused may have been mended outside of the file and the configuration.
	if !same || u.status.State == refused {
		u.rouse()
	}
}

// rouse makes the unit start its plugin anew, now.
func (u *unit) rouse() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// Watch is part of busylamp.Source. While nothing runs there is nobody to ask: when
// something does, the core asks anew.
func (u *unit) Watch(w busylamp.WatchWork) {
	u.mu.Lock()
	s := u.session
	u.mu.Unlock()
	if s != nil {
		s.Watch(w)
	}
}

func (u *unit) config() Config {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.want
}

func (u *unit) log() *slog.Logger { return u.config().Log }

// run keeps the plugin running until ctx ends.
func (u *unit) run(ctx context.Context) {
	var failures streak
	for ctx.Err() == nil {
		p, err := u.launch(ctx)
		for err == nil && p != nil {
			began := time.Now()
			if p, err = u.serve(ctx, p); time.Since(began) >= u.host.timing.good || err == nil {
				failures = streak{}
			}
		}
		if ctx.Err() == nil && u.rest(ctx, failures.add(err), err) {
			failures = streak{}
		}
	}
}

// launch starts a process by the configuration of the moment.
func (u *unit) launch(ctx context.Context) (*process, error) {
	u.mu.Lock()
	cfg := u.want
	if u.session == nil {
		u.set(starting)
	}
	u.mu.Unlock()
	p, err := start(ctx, u.host.starter, u.host.timing, cfg)
	digest := ""
	if p != nil {
		digest = p.runner.file.digest
	} else {
		digest, _ = Digest(cfg.Path)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tried = digest
	u.status.Restarts, u.starts = u.starts, u.starts+1
	if err != nil {
		u.status.Error = clean(err.Error(), maxError)
		return nil, err
	}
	return p, nil
}

// set changes the state. u.mu is held.
func (u *unit) set(state string) { u.status.State, u.status.Since = state, time.Now() }

// serve lets a process run until it fails, which is the error, or until ctx ends or another
// process is ready to take its place, which is returned.
func (u *unit) serve(ctx context.Context, p *process) (*process, error) {
	s := newSession(p, u.log(), &u.ignored, func(ctx context.Context, r busylamp.SourceReport) { u.host.outlet.report(ctx, u, r) })
	u.mu.Lock()
	u.session = s
	u.set(running)
	u.status.PID, u.status.Kind, u.status.Version = p.runner.cmd.Process.Pid, p.description.Name, p.description.Version
	u.status.Contract = plugin.Version
	u.status.Path, u.status.Digest = p.runner.file.path, p.runner.file.digest
	u.mu.Unlock()
	u.log().Info("the plugin runs", "kind", p.description.Name, "version", p.description.Version, "pid", p.runner.cmd.Process.Pid)
	ended := make(chan error, 1)
	go func() { ended <- s.run() }()
	next, err := u.await(ctx, s, ended)
	u.mu.Lock()
	u.session, u.status.PID = nil, 0
	u.mu.Unlock()
	return next, err
}

// await waits for a session's end, or brings it about. A successor that cannot start is tried
// again as if nothing ran, but not parked: what runs goes on.
func (u *unit) await(ctx context.Context, s *session, ended <-chan error) (*process, error) {
	var again <-chan time.Time
	var failures streak
	for {
		select {
		case err := <-ended:
			if err == nil {
				err = errStopped
			}
			return nil, err
		case <-ctx.Done():
			s.stop()
			<-ended
			return nil, nil
		case <-u.wake:
			failures = streak{}
		case <-again:
		}
		next, err := u.launch(ctx)
		if err != nil {
			if again = nil; ctx.Err() == nil {
				t, n := u.host.timing, failures.add(err)
				u.log().Log(ctx, t.level(n, slog.LevelError), "the plugin cannot be replaced, the one that runs goes on", "error", err)
				if t.hopeful(n, err) {
					again = time.After(t.delay(n))
				}
			}
			continue
		}
		s.stop()
		<-ended
		u.host.outlet.report(ctx, u, busylamp.SourceReport{Down: "replaced by another process"})
		return next, nil
	}
}

// rest tells of a failure, the last of so many in a row, and waits for the time to start
// again, which may be that of somebody who asks for it: then it returns true.
func (u *unit) rest(ctx context.Context, failures int, err error) (roused bool) {
	t := u.host.timing
	var again <-chan time.Time
	var no refusal
	u.mu.Lock()
	u.status.Error = clean(err.Error(), maxError)
	switch {
	case errors.As(err, &no):
		u.set(refused)
		u.want.Log.Error("the plugin is refused until the next reload, or busylamp plugin restart "+u.want.Name, "error", err)
	case !t.hopeful(failures, err):
		u.set(parked)
		u.want.Log.Warn(fmt.Sprintf("the plugin failed %d times in a row and is parked: mend it, then busylamp plugin restart %s", failures, u.want.Name), "error", err)
	default:
		d := t.delay(failures)
		timer := time.NewTimer(d)
		defer timer.Stop()
		again, u.retryAt = timer.C, time.Now().Add(d)
		u.set(restarting)
		u.want.Log.Log(ctx, t.level(failures, slog.LevelWarn), "the plugin failed and is started again", "error", err, "in", d.Round(time.Millisecond), "failures", failures)
	}
	u.mu.Unlock()
	u.host.outlet.report(ctx, u, busylamp.SourceReport{Down: clean(err.Error(), maxError)})
	select {
	case <-again:
		return false
	case <-u.wake:
		return true
	case <-ctx.Done():
		return true
	}
}

// report returns the status for people.
func (u *unit) report() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.status
	s.Ignored = u.ignored.Load()
	if s.State == restarting {
		s.State += max(time.Until(u.retryAt), 0).Round(100 * time.Millisecond).String()
	}
	return s
}
