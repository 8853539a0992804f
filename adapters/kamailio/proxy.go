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

// Sink takes what is learned. Its methods are called from one goroutine per proxy and
// keep their order; proxy is the index that the adapter was given.
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
	g, err := openGuard(ctx, k.cfg.Evapi, k.timing, &k.Count)
	if err != nil {
		return false, err
	}
	defer g.close()
	k.Count.Connects.Add(1)
	s := session{Events: k, guard: g, dropped: k.Count.Dropped.Load()}
	check := time.NewTicker(reorderWindow / 4)
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case payload := <-g.frames:
			err = s.frame(payload, time.Now())
		case <-check.C:
			s.check(time.Now())
		case <-g.done:
			err = g.err
		}
		if err != nil {
			break
		}
	}
	if s.epoch != "" {
		k.sink.Disconnected(k.cfg.Index)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w (is busylamp.cfg included in this proxy's configuration?)", err)
	}
	return s.epoch != "", err
}

// session is what is known over one connection.
type session struct {
	*Events
	guard   *guard
	epoch   string
	seq     sequence
	dropped uint64 // as many are known
}

// frame takes one frame. An error ends the connection.
func (s *session) frame(payload []byte, now time.Time) error {
	s.Count.Frames.Add(1)
	f, err := decodeFrame(payload)
	if err != nil {
		s.Count.BadFrames.Add(1)
		return err
	}
	switch s.epoch {
	case f.epoch:
	case "":
		s.epoch = f.epoch
		s.cfg.Log.Info("connected to the proxy", "proxy", s.cfg.Name, "epoch", f.epoch)
		s.sink.Connected(s.cfg.Index, f.epoch)
	default:
		// One connection is to one life of one proxy.
		return fmt.Errorf("the epoch changed from %s to %s within a connection", s.epoch, f.epoch)
	}
	s.Count.Lines.Add(uint64(len(f.events)))
	if f.bad > 0 {
		s.Count.BadLines.Add(uint64(f.bad))
		s.cfg.Log.Warn("lines of a frame could not be read", "proxy", s.cfg.Name, "lines", f.bad, "error", f.err)
		s.sink.Doubt(s.cfg.Index, "unreadable event")
	}
	late := false
	for i := range f.events {
		late = s.seq.arrived(f.events[i].Seq) || late
	}
	if f.heartbeat {
		s.heartbeat(f, now)
	}
	if len(f.events) > 0 {
		s.sink.Calls(s.cfg.Index, f.events)
	}
	if late {
		// The resync for what was written off was asked before this event was known, so it
		// says nothing about this call: its end may be among what was lost.
		s.sink.Doubt(s.cfg.Index, "an event came after it was given up")
	}
	return nil
}

func (s *session) heartbeat(f frame, now time.Time) {
	if s.seq.started {
		s.seq.given(f.given)
		return
	}
	s.seq.start(f.given, now)
	if s.cfg.Early && !f.early {
		s.cfg.Log.Warn("early: publish needs #!define BUSYLAMP_EARLY in the proxy's configuration; only answered calls are seen",
			"proxy", s.cfg.Name)
	}
}

// check looks for events that did not come.
func (s *session) check(now time.Time) {
	if n := s.Count.Dropped.Load(); n > s.dropped {
		s.dropped = n
		s.sink.Doubt(s.cfg.Index, "events dropped: the engine was too slow")
	}
	if len(s.guard.frames) > 0 {
		return // what seems to be missing may be waiting right here
	}
	if n := s.seq.lost(now); n > 0 {
		s.Count.Lost.Add(uint64(n))
		s.cfg.Log.Warn("events lost between the proxy and us; asking for the truth", "proxy", s.cfg.Name, "events", n)
		s.sink.Doubt(s.cfg.Index, "events lost")
	}
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
