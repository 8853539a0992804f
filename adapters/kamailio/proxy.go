// Package kamailio learns of calls from a Kamailio proxy that includes busylamp.cfg:
// events over evapi, and the whole truth over JSON-RPC.
package kamailio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"github.com/busylamp/busylamp"
)

// Sink takes what is learned. Of one proxy its methods are called one at a time, in order;
// proxy is the index that the adapter was given. They may wait: what arrives meanwhile is
// kept, as far as there is room, and comes in larger portions.
type Sink interface {
	Connected(proxy int, epoch string)
	Disconnected(proxy int)
	Doubt(proxy int, why string)
	Calls(proxy int, events []busylamp.CallEvent)
}

// Config says where a proxy is.
type Config struct {
	Index int    // the proxy's index in the engine
	Name  string // for logs
	Evapi string // host:port of its evapi
	Early bool   // early dialogs are wanted
	Log   *slog.Logger
}

// Counters are what an adapter has met. They only grow.
type Counters struct {
	Connects, Frames, Lines, BadFrames, BadLines, Foreign, Dropped, Lost atomic.Uint64
}

// Events receives a proxy's events.
type Events struct {
	cfg   Config
	sink  Sink
	Count Counters

	timing timing
}

// NewEvents returns a receiver that hands what it learns to sink.
func NewEvents(cfg Config, sink Sink) *Events {
	return &Events{cfg: cfg, sink: sink, timing: defaultTiming}
}

// Run stays connected until ctx ends.
func (k *Events) Run(ctx context.Context) {
	log := k.cfg.Log.With("proxy", k.cfg.Name, "evapi", k.cfg.Evapi)
	wait, failing := k.timing.firstWait, false
	for ctx.Err() == nil {
		began := time.Now()
		heard, err := k.connection(ctx)
		if ctx.Err() != nil {
			return
		}
		if heard {
			failing = false
			log.Warn("connection to the proxy lost", "error", err)
		} else if !failing {
			failing = true
			log.Warn("cannot reach the proxy; will keep trying", "error", err)
		}
		if heard && time.Since(began) > k.timing.mostWait { // or a proxy that fails at once would see no back-off
			wait = k.timing.firstWait
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, k.timing.mostWait)
	}
}

// connection serves one connection to its end, and reports whether busylamp.cfg was heard
// over it.
func (k *Events) connection(ctx context.Context) (heard bool, err error) {
	s := newSession(k)
	g, err := openGuard(ctx, k.cfg.Evapi, k.timing, &k.Count, s.take)
	if err != nil {
		s.inbox.close()
		return false, err
	}
	defer g.close()
	k.Count.Connects.Add(1)
	err = s.serve(ctx, g)
	s.inbox.close() // nothing of this life comes after Disconnected
	if s.failed != nil {
		err = s.failed
	}
	if s.epoch != "" {
		k.sink.Disconnected(k.cfg.Index)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w (is busylamp.cfg included in this proxy's configuration?)", err)
	}
	return s.epoch != "", err
}

// Name returns the proxy's configured name.
func (k *Events) Name() string { return k.cfg.Name }

// Each calls f with the name and the value of every counter.
func (c *Counters) Each(f func(what string, n uint64)) {
	f("connects", c.Connects.Load())
	f("frames", c.Frames.Load())
	f("events", c.Lines.Load())
	f("bad_frames", c.BadFrames.Load())
	f("bad_events", c.BadLines.Load())
	f("foreign_frames", c.Foreign.Load())
	f("dropped", c.Dropped.Load())
	f("lost", c.Lost.Load())
}
