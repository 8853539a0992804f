package pluginhost

import (
	"context"
	"sync"

	"github.com/busylamp/busylamp"
)

// Sink takes what sources bring: the loop. It may make its caller wait.
type Sink interface {
	Report(source int, r busylamp.SourceReport)
}

// outlet is the way of all reports of a host to the sink of the time.
type outlet struct {
	mu     sync.RWMutex // held for reading while a report is on its way
	sink   Sink         // nil: reports wait
	ready  chan struct{}
	closed bool // reports go nowhere
}

// change waits for the reports that are on their way, and lets f set the outlet. Those that
// wait for a sink look again then.
func (o *outlet) change(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
	if o.ready != nil && (o.sink != nil || o.closed) {
		close(o.ready)
		o.ready = nil
	}
}

// report hands a unit's report over. While nobody listens it waits, unless ctx ends.
func (o *outlet) report(ctx context.Context, u *unit, r busylamp.SourceReport) {
	for {
		ready := o.try(u, r)
		if ready == nil {
			return
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return
		}
	}
}

// try reports, or returns what to wait for.
func (o *outlet) try(u *unit, r busylamp.SourceReport) <-chan struct{} {
	o.mu.RLock()
	if o.sink == nil && !o.closed && u.index >= 0 {
		o.mu.RUnlock()
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.sink == nil && !o.closed {
			if o.ready == nil {
				o.ready = make(chan struct{})
			}
			return o.ready
		}
		again := make(chan struct{})
		close(again)
		return again
	}
	defer o.mu.RUnlock()
	if o.closed || u.index < 0 {
		return nil
	}
	if r.Up != nil || r.Down != "" {
		u.up.Store(r.Up != nil)
	}
	o.sink.Report(u.index, r)
	return nil
}
