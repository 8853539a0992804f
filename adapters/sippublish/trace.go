package sippublish

import (
	"context"
	"fmt"
	"sync"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/sipnet"
)

// maxTraces bounds how many look on at a time.
const maxTraces = 16

// taps are those who look at the messages of a presentity.
type taps struct {
	mu  sync.RWMutex
	all []*tap
}

type tap struct {
	who busylamp.Presentity

	mu sync.Mutex
	f  func(sipnet.Traced) // nil: stopped
}

// Trace tells f of every SIP message about a presentity, from its next request on, until
// stop is called. f is called for one message at a time, must be quick and must not call
// stop; it is not called any more when stop has returned. An error says that too many look
// on already.
func (p *Publisher) Trace(who busylamp.Presentity, f func(sipnet.Traced)) (stop func(), err error) {
	t := &tap{who: who, f: f}
	p.taps.mu.Lock()
	defer p.taps.mu.Unlock()
	if len(p.taps.all) >= maxTraces {
		return nil, fmt.Errorf("publisher %s: %d traces are running: end one first", p.cfg.Name, maxTraces)
	}
	p.taps.all = append(p.taps.all, t)
	p.tapped.Store(true)
	return func() { p.untap(t) }, nil
}

// untap ends a trace. That of a request that is under way holds on to the tap, which
// therefore forgets whom to tell.
func (p *Publisher) untap(t *tap) {
	p.taps.mu.Lock()
	for i := range p.taps.all {
		if p.taps.all[i] == t {
			p.taps.all = append(p.taps.all[:i], p.taps.all[i+1:]...)
			break
		}
	}
	p.tapped.Store(len(p.taps.all) > 0)
	p.taps.mu.Unlock()
	t.mu.Lock()
	t.f = nil
	t.mu.Unlock()
}

func (t *tap) tell(m sipnet.Traced) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.f != nil {
		t.f(m)
	}
}

// traced returns the context for a request about a presentity: ctx itself if nobody looks.
func (p *Publisher) traced(ctx context.Context, who busylamp.Presentity) context.Context {
	if !p.tapped.Load() {
		return ctx
	}
	p.taps.mu.RLock()
	defer p.taps.mu.RUnlock()
	var mine []*tap
	for _, t := range p.taps.all {
		if t.who == who {
			mine = append(mine, t)
		}
	}
	if mine == nil {
		return ctx
	}
	return sipnet.WithTrace(ctx, func(m sipnet.Traced) {
		for _, t := range mine {
			t.tell(m)
		}
	})
}
