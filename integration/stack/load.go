package stack

import (
	"context"
	"sync"
	"time"
)

// Load is calls at an even rate. Each one is placed when its time has come, whatever
// became of those before (an open loop).
type Load struct {
	Rate int           // calls a second
	For  time.Duration // how long calls are placed
	Hold time.Duration // how long each one lasts from its answer; below 0: it is left up
	Pair func(i int) (from, to string)
}

// LoadResult is what became of a load.
type LoadResult struct {
	Placed   int
	Calls    []*Call // the answered ones
	Failures []Failure
}

// Failure is a call that could not be placed or ended.
type Failure struct {
	Placed time.Time
	Err    error
}

// Run places the calls of a load and returns when all of them have ended. When ctx ends,
// so do the placing and what is under way.
func (p *Phones) Run(ctx context.Context, l Load) LoadResult {
	var (
		res   LoadResult
		mu    sync.Mutex
		calls sync.WaitGroup
	)
	fail := func(placed time.Time, err error) {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() == nil {
			res.Failures = append(res.Failures, Failure{placed, err})
		}
	}
	began := time.Now()
	total := int(l.For.Seconds() * float64(l.Rate))
	for ; res.Placed < total && ctx.Err() == nil; res.Placed++ {
		due := began.Add(time.Duration(res.Placed) * time.Second / time.Duration(l.Rate))
		if !sleep(ctx, time.Until(due)) {
			break
		}
		from, to := l.Pair(res.Placed)
		calls.Go(func() {
			placed := time.Now()
			c, err := p.Call(ctx, from, to)
			if err != nil {
				fail(placed, err)
				return
			}
			mu.Lock()
			res.Calls = append(res.Calls, c)
			mu.Unlock()
			if l.Hold < 0 || !sleep(ctx, l.Hold) {
				return
			}
			if err := c.Hangup(ctx); err != nil {
				fail(placed, err)
			}
		})
	}
	calls.Wait()
	return res
}

// HangupAll ends all calls that are up, at a rate, and returns what failed.
func (p *Phones) HangupAll(ctx context.Context, rate int) []error {
	var (
		errs  []error
		mu    sync.Mutex
		calls sync.WaitGroup
	)
	began := time.Now()
	for i, c := range p.Up() {
		if !sleep(ctx, time.Until(began.Add(time.Duration(i)*time.Second/time.Duration(rate)))) {
			break
		}
		calls.Go(func() {
			if err := c.Hangup(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	calls.Wait()
	return errs
}

// sleep waits and reports whether ctx let it.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
