// Package pluginhost finds, verifies, starts and supervises the plugins that are sources,
// and is the bridge between their gRPC stream and the core.
package pluginhost

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/plugin"
)

// Config is one source.
type Config struct {
	Name          string // of the source, unique
	Path          string // of the plugin's file: plugins.dir and its name there
	SHA256        string // that it must have, in hex; "" for any, if AllowUnpinned
	AllowUnpinned bool
	MTLS          bool
	Settings      []byte       // the source's own section, JSON; none: an empty one
	OwnTuples     []string     // the ids of the PIDF tuples that we publish
	Log           *slog.Logger // with the source's name in it; nil for none
}

// Host runs the plugins of a sidecar, over all its configurations.
type Host struct {
	timing timing
	outlet outlet

	mu      sync.Mutex
	starter *starter // nil before the first start
	units   []*unit  // by the configuration's order
	cancels map[*unit]context.CancelFunc
	closed  bool
	running sync.WaitGroup
}

// New returns a host that runs nothing yet.
func New() *Host {
	return &Host{timing: defaultTiming(), cancels: make(map[*unit]context.CancelFunc)}
}

// Apply makes the running plugins be those of cfgs, in this order, and reports to sink from
// now on, by the index in cfgs. It waits for no plugin.
//
// One whose configuration and file are the same goes on with its stream. One that has changed
// is replaced when its successor has been started, described and configured; if that fails,
// which is logged, it goes on as it was. One that is gone is ended.
// Sources of two configurations are the same by their name: see [Host.Kept].
func (h *Host) Apply(cfgs []Config, sink Sink) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("the plugin host is closed")
	}
	if h.starter == nil && len(cfgs) > 0 {
		s, err := newStarter()
		if err != nil {
			return fmt.Errorf("no directory for plugins: %w: check TMPDIR", err)
		}
		h.starter = s
	}
	known := make(map[string]*unit, len(h.units))
	for _, u := range h.units {
		known[u.config().Name] = u
	}
	units, fresh := make([]*unit, 0, len(cfgs)), []*unit(nil)
	for i, cfg := range cfgs {
		cfg.Log = logger(cfg)
		u := known[cfg.Name]
		delete(known, cfg.Name)
		if u == nil {
			u = newUnit(h, i, cfg)
			fresh = append(fresh, u)
		} else {
			u.apply(cfg)
		}
		units = append(units, u)
	}
	h.units = units
	h.outlet.change(func() {
		for _, u := range known {
			u.index = -1
		}
		for i, u := range units {
			u.index = i
		}
		h.outlet.sink = sink
	})
	for _, u := range known {
		h.cancels[u]()
		delete(h.cancels, u)
	}
	for _, u := range fresh {
		ctx, cancel := context.WithCancel(context.Background())
		h.cancels[u] = cancel
		h.running.Go(func() { u.run(ctx) })
	}
	return nil
}

func logger(cfg Config) *slog.Logger {
	if cfg.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return cfg.Log
}

// Detach makes reports wait until the next Apply; the plugins' streams are held up by that.
// When it returns, the former sink gets nothing more. It waits for the reports that the sink
// has before it, so that whoever drains the sink must not call it.
func (h *Host) Detach() { h.outlet.change(func() { h.outlet.sink = nil }) }

// nobody is a source that was never configured.
type nobody struct{}

// Watch is part of busylamp.Source.
func (nobody) Watch(busylamp.WatchWork) {}

func (h *Host) unit(i int) *unit {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i < 0 || i >= len(h.units) {
		return nil
	}
	return h.units[i]
}

// Source returns the source with an index in the latest configurations.
func (h *Host) Source(i int) busylamp.Source {
	if u := h.unit(i); u != nil {
		return u
	}
	return nobody{}
}

// Kept tells whether the sink of the moment has been told that a source is up, and not that
// it is down. After Detach that stays so until the next Apply, whose sink has to begin with
// the same, by the source's name: it is told the next change alone. If the source has to be
// replaced, that is such a change: it goes down, and up.
func (h *Host) Kept(i int) bool {
	u := h.unit(i)
	return u != nil && u.up.Load()
}

// Info returns what a running source's sink was told of it.
func (h *Host) Info(i int) (busylamp.SourceInfo, bool) {
	u := h.unit(i)
	if u == nil {
		return busylamp.SourceInfo{}, false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.session == nil {
		return busylamp.SourceInfo{}, false
	}
	return u.session.process.info(), true
}

// Statuses returns how the plugins do, in the order of their configurations.
func (h *Host) Statuses() []Status {
	h.mu.Lock()
	units := h.units
	h.mu.Unlock()
	out := make([]Status, 0, len(units))
	for _, u := range units {
		out = append(out, u.report())
	}
	return out
}

// Restart starts a source's plugin anew: one that is parked, refused or waiting at once, one
// that runs when its successor is ready.
func (h *Host) Restart(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, u := range h.units {
		if u.config().Name == name {
			u.rouse()
			return nil
		}
	}
	return fmt.Errorf("source %s is not configured", shown(name))
}

// Close ends all plugins, and returns when no process is left.
func (h *Host) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.outlet.change(func() { h.outlet.closed = true })
	for _, cancel := range h.cancels {
		cancel()
	}
	clear(h.cancels)
	h.running.Wait()
	if h.starter != nil {
		h.starter.close()
		h.starter = nil
	}
}

// Inspect starts a plugin, has it describe itself and take its configuration, and ends it. It
// returns the description as far as it has come: a [ConfigError] comes with it.
func Inspect(ctx context.Context, cfg Config) (plugin.Description, []string, error) {
	cfg.Log = logger(cfg)
	s, err := newStarter()
	if err != nil {
		return plugin.Description{}, nil, err
	}
	defer s.close()
	p, err := start(ctx, s, defaultTiming(), cfg)
	if p == nil {
		return plugin.Description{}, nil, err
	}
	if err == nil {
		p.end(p.timing.end)
	}
	return p.description, p.endpoints, err
}
