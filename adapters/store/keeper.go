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
	pending pending
	spare   pending // empty, to be used again
	writing int     // changes of the commit under way
	behind  bool    // changes were dropped: the store has not all that is published
	failing error
	since   time.Time
	news    chan struct{}
	began   time.Time
}

type publication struct {
	publisher  string
	presentity busylamp.Presentity
}

// pending is the latest change of each publication. Times are since Keeper.began.
type pending struct {
	ops []busylamp.StoreOp
	at  map[publication]int32 // in ops
}

// put adds a change, in the place of an earlier one of the publication if it is later.
func (p *pending) put(op busylamp.StoreOp, later bool) {
	key := publication{op.Record.Publisher, op.Record.Presentity}
	i, known := p.at[key]
	switch {
	case !known:
		p.at[key] = int32(len(p.ops))
		p.ops = append(p.ops, op)
	case later:
		p.ops[i] = op
	}
}

// emptied returns an empty one that uses the room again, unless that is a lot.
func (p pending) emptied() pending {
	if p.at == nil || cap(p.ops) > maxBatch {
		return pending{at: make(map[publication]int32)}
	}
	clear(p.at)
	clear(p.ops)
	return pending{ops: p.ops[:0], at: p.at}
}

// shift moves the times of changes.
func shift(ops []busylamp.StoreOp, by time.Duration) {
	for i := range ops {
		ops[i].Record.Expires += by
		ops[i].Record.Refresh += by
	}
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
	return &Keeper{store: s, log: log, retry: time.Second, pending: pending{}.emptied(), news: make(chan struct{}, 1), began: time.Now()}
}

// Keep takes changes, whose times are from now on, and does not wait.
func (k *Keeper) Keep(ops []busylamp.StoreOp) {
	if len(ops) == 0 {
		return
	}
	k.mu.Lock()
	from := time.Since(k.began)
	for _, op := range ops {
		op.Record.Expires += from
		op.Record.Refresh += from
		k.pending.put(op, true)
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
	if k.failing != nil && len(k.pending.ops) > maxPending {
		k.pending = k.pending.emptied()
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
	return len(k.pending.ops) + k.writing
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

// commit writes what waits, in batches.
func (k *Keeper) commit(ctx context.Context, all func(context.Context) ([]busylamp.Record, error)) error {
	taken := k.take()
	for left := taken.ops; len(left) > 0; {
		batch := left[:min(len(left), maxBatch)]
		now := time.Since(k.began)
		shift(batch, -now)
		err := k.store.Commit(ctx, batch)
		shift(batch, now)
		k.note(err)
		k.written(left, len(batch), err)
		if errors.Is(err, ErrLost) || err == nil && k.caughtUp() {
			k.putAll(ctx, all)
		}
		if err != nil {
			return err
		}
		left = left[len(batch):]
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.spare = taken.emptied()
	return nil
}

func (k *Keeper) take() pending {
	k.mu.Lock()
	defer k.mu.Unlock()
	taken := k.pending
	k.pending, k.spare = k.spare, pending{}
	if k.pending.at == nil {
		k.pending = k.pending.emptied()
	}
	k.writing = len(taken.ops)
	return taken
}

// written notes that the first n of the changes that are left are in the store. If they could
// not be committed, all of them wait again, unless there are later ones.
func (k *Keeper) written(left []busylamp.StoreOp, n int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.writing -= n
	if err == nil {
		return
	}
	k.writing = 0
	for _, op := range left {
		k.pending.put(op, false)
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
	from := time.Since(k.began)
	for _, r := range records {
		r.Expires += from
		r.Refresh += from
		k.pending.put(busylamp.StoreOp{Record: r}, false)
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
