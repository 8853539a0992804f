package busylamp

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Loop runs an [Engine]: it is the one goroutine that may touch it, the clock, and the
// goroutines that carry out the engine's work. Adapters speak to it from anywhere.
type Loop struct {
	engine     *Engine
	proxies    []Proxy
	publishers []Publisher
	sources    []Source
	observe    func(Work)
	keep       func([]StoreOp)

	mailbox  chan func(*Engine)
	requests chan PublishWork
	done     chan struct{}
	began    time.Time
	workers  sync.WaitGroup
	work     context.Context
	asking   []context.CancelFunc // the resync under way of each proxy
	withdraw time.Duration
}

// mailboxSize bounds what waits for the engine. A full mailbox holds up who posts: the
// adapters drop, count and resync when they are held up for long.
const mailboxSize = 1024

// maxBatch bounds the messages between two looks at the clock.
const maxBatch = 256

// LoopConfig is what a loop works with; Proxies and Publishers are in the engine's order.
type LoopConfig struct {
	Proxies    []Proxy
	Publishers []Publisher
	Sources    []Source
	Observe    func(Work) // is told what people should read: Changes, Statuses, Notes; may be nil
	// Keep hands changes to the store, and does not wait for it; times are from now on.
	// May be nil.
	Keep func([]StoreOp)
	// Withdraw is how long Run may take at its end to remove what is published; 0 leaves
	// it for the next life, see Records.
	Withdraw time.Duration
}

// settleTime is how long Run waits at its end for answers, so that what it leaves is known.
const settleTime = time.Second

// NewLoop returns a loop around an engine, which is the loop's from now on.
func NewLoop(e *Engine, cfg LoopConfig) *Loop {
	return &Loop{engine: e, proxies: cfg.Proxies, publishers: cfg.Publishers, sources: cfg.Sources, observe: cfg.Observe, keep: cfg.Keep,
		withdraw: cfg.Withdraw, asking: make([]context.CancelFunc, len(cfg.Proxies)), mailbox: make(chan func(*Engine), mailboxSize), done: make(chan struct{}),
		requests: make(chan PublishWork)}
}

// ErrHandOver is the cause of a context that ends because another loop takes over: nothing
// is withdrawn then.
var ErrHandOver = errors.New("handed over")

// ErrStopped says that the loop has ended.
var ErrStopped = errors.New("the engine has stopped")

// Run runs the engine until ctx ends. Then it removes what is published, if the loop was
// told to withdraw, or waits a moment for the outstanding answers, and returns when all
// of its goroutines have ended.
func (l *Loop) Run(ctx context.Context) {
	work, cancel := context.WithCancel(context.Background())
	l.began, l.work = time.Now(), work
	defer l.workers.Wait()
	defer cancel()
	defer close(l.done)

	tick := time.NewTicker(wheelTick)
	defer tick.Stop()
	stop := ctx.Done()
	var deadline <-chan time.Time
	left := l.engine.Outstanding
	for {
		select {
		case f := <-l.mailbox:
			l.batch(f)
		case <-tick.C:
			l.step(func(*Engine) {})
		case <-stop:
			stop = nil
			if l.withdraw > 0 && !errors.Is(context.Cause(ctx), ErrHandOver) {
				left, deadline = l.engine.Live, time.After(l.withdraw)
				l.step((*Engine).Withdraw)
			} else {
				deadline = time.After(settleTime)
				l.step((*Engine).Quiesce)
			}
		case <-deadline:
			return
		}
		if deadline != nil && left() == 0 {
			return
		}
	}
}

// Records returns what the servers have, while Run runs and after it; times are from now
// on.
func (l *Loop) Records(ctx context.Context) ([]Record, error) {
	var records []Record
	err := l.Do(ctx, func(e *Engine) { records = e.Records() })
	if errors.Is(err, ErrStopped) {
		records, err = l.engine.Records(), nil
	}
	now := time.Since(l.began)
	for i := range records {
		records[i].after(now)
	}
	return records, err
}

// Handover returns what is known by sources, after Run.
func (l *Loop) Handover() Handover { return l.engine.Handover(time.Since(l.began)) }

// after makes a record's times relative to a moment.
func (r *Record) after(now time.Duration) { r.Expires, r.Refresh = r.Expires-now, r.Refresh-now }

// batch takes a message and those that wait behind it.
func (l *Loop) batch(f func(*Engine)) {
	l.engine.Advance(time.Since(l.began))
	f(l.engine)
	for range min(len(l.mailbox), maxBatch) {
		(<-l.mailbox)(l.engine)
	}
	l.perform(l.engine.Take())
}

func (l *Loop) step(f func(*Engine)) {
	l.engine.Advance(time.Since(l.began))
	f(l.engine)
	l.perform(l.engine.Take())
}

// perform carries out what the engine wants done.
func (l *Loop) perform(w Work) {
	if l.observe != nil && len(w.Changes)+len(w.Statuses)+len(w.Notes) > 0 {
		l.observe(w)
	}
	for _, w := range w.Watches {
		l.sources[w.Source].Watch(w)
	}
	if l.keep != nil && len(w.Store) > 0 {
		now := time.Since(l.began)
		for i := range w.Store {
			w.Store[i].Record.after(now)
		}
		l.keep(w.Store)
	}
	for _, p := range w.Publish {
		select {
		case l.requests <- p: // somebody is idle
		default:
			l.workers.Go(func() { l.publish(p) })
		}
	}
	for _, w := range w.Lists {
		ctx, cancel := l.ask(w.Proxy, listTime)
		l.workers.Go(func() { l.list(ctx, cancel, w) })
	}
	for _, w := range w.Details {
		ctx, cancel := l.ask(w.Proxy, resyncTimeout-listTime)
		l.workers.Go(func() { l.details(ctx, cancel, w) })
	}
}

// idleTime is how long a goroutine that sends requests waits for the next one. A new one for
// each would have to grow its stack each time.
const idleTime = 10 * time.Second

// publish sends a request, and those that come after it.
func (l *Loop) publish(p PublishWork) {
	idle := time.NewTimer(idleTime)
	defer idle.Stop()
	for {
		r := p.Request // the engine may hear of it when p is the next one
		out := l.publishers[p.Publisher].Publish(l.work, r)
		l.post(func(e *Engine) { e.Settled(r, out) })
		idle.Reset(idleTime)
		select {
		case p = <-l.requests:
		case <-idle.C:
			return
		case <-l.work.Done():
			return
		}
	}
}

func (l *Loop) list(ctx context.Context, cancel context.CancelFunc, w ListWork) {
	defer cancel()
	listing, err := l.proxies[w.Proxy].List(ctx)
	l.post(func(e *Engine) {
		if err != nil {
			e.ResyncFailed(w.Proxy, w.ID, err.Error())
			return
		}
		e.Listed(w.Proxy, w.ID, listing)
	})
}

func (l *Loop) details(ctx context.Context, cancel context.CancelFunc, w DetailWork) {
	defer cancel()
	err := l.proxies[w.Proxy].Details(ctx, w.Wanted, func(events []CallEvent) {
		l.post(func(e *Engine) { e.Detailed(w.Proxy, w.ID, events) })
	})
	l.post(func(e *Engine) {
		if err != nil {
			e.ResyncFailed(w.Proxy, w.ID, err.Error())
			return
		}
		e.Resynced(w.Proxy, w.ID)
	})
}

// listTime bounds a list: I8 has 30 s, and a proxy whose memory is too small for its
// answer never gives one.
const listTime = 25 * time.Second

// ask returns the context of one half of a resync.
func (l *Loop) ask(proxy int, atMost time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(l.work, atMost)
	l.asking[proxy] = cancel
	return ctx, cancel
}

// stopAsking ends a resync that is under way: what is asked belongs to a connection, or a
// life of the proxy, that is over.
func (l *Loop) stopAsking(proxy int) {
	if cancel := l.asking[proxy]; cancel != nil {
		cancel()
	}
}

// post hands a message to the engine, unless the loop has ended.
func (l *Loop) post(f func(*Engine)) {
	select {
	case l.mailbox <- f:
	case <-l.done:
	}
}

// Connected posts [Engine.Connected]. This and the following methods are for the adapters
// of proxies; messages of one goroutine keep their order.
func (l *Loop) Connected(proxy int, epoch string) {
	l.post(func(e *Engine) { l.stopAsking(proxy); e.Connected(proxy, epoch) })
}

// Disconnected posts [Engine.Disconnected].
func (l *Loop) Disconnected(proxy int) {
	l.post(func(e *Engine) { l.stopAsking(proxy); e.Disconnected(proxy) })
}

// Doubt posts [Engine.Doubt].
func (l *Loop) Doubt(proxy int, why string) { l.post(func(e *Engine) { e.Doubt(proxy, why) }) }

// Calls posts [Engine.Calls]. The slice is the engine's from now on.
func (l *Loop) Calls(proxy int, events []CallEvent) {
	l.post(func(e *Engine) { e.Calls(proxy, events) })
}

// Report posts [Engine.Report].
func (l *Loop) Report(source int, r SourceReport) {
	l.post(func(e *Engine) { e.Report(source, r) })
}

// Do lets f look at the engine, or change it, and returns when it has. f must be quick:
// nothing else goes on meanwhile.
func (l *Loop) Do(ctx context.Context, f func(*Engine)) error {
	ran := make(chan struct{})
	select {
	case l.mailbox <- func(e *Engine) { f(e); close(ran) }:
	case <-l.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-ran:
		return nil
	case <-l.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}
