package store

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/busylamp/busylamp"
)

// Keeper brings changes to a store beside those who have them: nobody waits for the disk.
// What comes while one commit is under way goes in the next, only the latest change of
// each publication. A store that fails costs durability and nothing else; it is tried
// again until it is well.
type Keeper struct {
	store busylamp.Store
	log   *slog.Logger
	retry time.Duration

	mu      sync.Mutex
	pending map[publication]change
	behind  bool // changes were dropped: the store has not all that is published
	failing error
	since   time.Time
	news    chan struct{}
}

type publication struct {
	publisher  string
	presentity busylamp.Presentity
}

type change struct {
	op busylamp.StoreOp
	at time.Time // that its times count from
}

const (
	// maxPending bounds what waits for a store that fails. Beyond it, changes are dropped,
	// and all records are written when the store is well.
	maxPending = 200_000
	// maxBatch bounds one commit.
	maxBatch = 4096
	// gather is the time from one commit to the next. What a kill within it cuts off can
	// leave a publication that dies with its lifetime; without it, a commit for every other
	// change costs more than all the rest of the sidecar.
	gather = 5 * time.Millisecond
	// flushTime bounds what Run takes at its end.
	flushTime = 2 * time.Second
)

// NewKeeper returns a keeper for a store.
func NewKeeper(s busylamp.Store, log *slog.Logger) *Keeper {
	return &Keeper{store: s, log: log, retry: time.Second, pending: make(map[publication]change), news: make(chan struct{}, 1)}
}

// Keep takes changes, whose times are from now on, and does not wait.
func (k *Keeper) Keep(ops []busylamp.StoreOp) {
	if len(ops) == 0 {
		return
	}
	k.mu.Lock()
	now := time.Now()
	for _, op := range ops {
		k.pending[publication{op.Record.Publisher, op.Record.Presentity}] = change{op, now}
	}
	k.bound()
	k.mu.Unlock()
	select {
	case k.news <- struct{}{}:
	default:
	}
}

// bound drops what waits if it is too much; k.mu is held.
func (k *Keeper) bound() {
	if k.failing != nil && len(k.pending) > maxPending {
		clear(k.pending)
		k.behind = true
	}
}

// Failing returns why nothing can be kept at present, and since when; nil when all is well.
func (k *Keeper) Failing() (since time.Time, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.since, k.failing
}

// Waiting returns how many changes are not durable yet.
func (k *Keeper) Waiting() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.pending)
}

// Run commits what [Keeper.Keep] takes until ctx ends, and then, as far as that can be done
// in a moment, what is left. all returns every record, with times from now on, for a store
// that began anew. Run returns [busylamp.ErrFenced] as soon as the store is somebody
// else's, and what is wrong with it if something is left in the end.
func (k *Keeper) Run(ctx context.Context, all func(context.Context) ([]busylamp.Record, error)) error {
	for ctx.Err() == nil {
		select {
		case <-k.news:
		case <-ctx.Done():
		}
		for k.Waiting() > 0 && ctx.Err() == nil {
			next := time.Now().Add(gather)
			err := k.commit(ctx, all)
			if errors.Is(err, busylamp.ErrFenced) {
				return err
			}
			if err != nil {
				next = next.Add(k.retry)
			}
			pause(ctx, time.Until(next))
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
	defer cancel()
	for k.Waiting() > 0 {
		if err := k.commit(ctx, all); err != nil && !errors.Is(err, ErrLost) {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// commit writes one batch.
func (k *Keeper) commit(ctx context.Context, all func(context.Context) ([]busylamp.Record, error)) error {
	taken := k.take()
	now := time.Now()
	ops := make([]busylamp.StoreOp, 0, len(taken))
	for _, c := range taken {
		op := c.op
		op.Record.Expires -= now.Sub(c.at)
		op.Record.Refresh -= now.Sub(c.at)
		ops = append(ops, op)
	}
	err := k.store.Commit(ctx, ops)
	k.note(err)
	if err != nil {
		k.putBack(taken)
	}
	if errors.Is(err, ErrLost) || err == nil && k.caughtUp() {
		k.putAll(ctx, all)
	}
	return err
}

func (k *Keeper) take() map[publication]change {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.pending) <= maxBatch {
		taken := k.pending
		k.pending = make(map[publication]change)
		return taken
	}
	taken := make(map[publication]change, maxBatch)
	for p, c := range k.pending {
		if len(taken) == maxBatch {
			break
		}
		taken[p] = c
		delete(k.pending, p)
	}
	return taken
}

// putBack has changes wait again that could not be committed, unless there are later ones.
func (k *Keeper) putBack(taken map[publication]change) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for p, c := range taken {
		if _, later := k.pending[p]; !later {
			k.pending[p] = c
		}
	}
	k.bound()
}

// caughtUp says, once, that changes were dropped while the store failed.
func (k *Keeper) caughtUp() (wasBehind bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	wasBehind, k.behind = k.behind, false
	return wasBehind
}

// putAll has every record wait that has no later change. What the store has beyond them
// dies with its Expires.
func (k *Keeper) putAll(ctx context.Context, all func(context.Context) ([]busylamp.Record, error)) {
	records, err := all(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.behind = err != nil // again after the next commit
	now := time.Now()
	for _, r := range records {
		p := publication{r.Publisher, r.Presentity}
		if _, later := k.pending[p]; !later {
			k.pending[p] = change{busylamp.StoreOp{Record: r}, now}
		}
	}
}

// note tells when the store begins to fail and when it is well again.
func (k *Keeper) note(err error) {
	k.mu.Lock()
	was := k.failing
	if err == nil {
		k.failing = nil
	} else if was == nil {
		k.failing, k.since = err, time.Now()
	}
	since := k.since
	k.mu.Unlock()
	switch {
	case err != nil && was == nil:
		k.log.Error("what is published cannot be kept for the next start; presence goes on", "error", err)
	case err == nil && was != nil:
		k.log.Info("what is published is kept again", "failed for", time.Since(since).Round(time.Second))
	}
}
