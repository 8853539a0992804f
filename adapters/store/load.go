package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/busylamp/busylamp"
)

// sweepBatch is how many deletions go into one batch.
const sweepBatch = 4096

// Load returns the records that have not expired, at most MaxRecords, and sweeps the others.
// Those that cannot be read are counted in the log and dropped. If the database turns out to
// be damaged, what could be read is returned, and the next Commit says [ErrLost].
func (s *Store) Load(ctx context.Context) ([]busylamp.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.final != nil {
		return nil, fmt.Errorf("store %s: %w", s.dir, s.final)
	}
	records, err := s.load(ctx)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", s.dir, err)
	}
	return records, nil
}

func (s *Store) load(ctx context.Context) ([]busylamp.Record, error) {
	if s.db != nil {
		_ = s.settle() // what cannot go there is laid over it
	}
	if s.final != nil {
		return nil, s.final
	}
	if s.db != nil {
		l, err := s.read(ctx, s.db, true, s.journal.kept)
		if err == nil {
			err = s.gate.err()
		}
		if err == nil || ctx.Err() != nil {
			return l.done(), err
		}
		// What a database shows behind a shut gate is not what is on the disk.
		if err = s.fault(err); s.final != nil {
			return nil, err
		}
		s.retry = 0
	}
	db, err := s.readOnly()
	if db == nil {
		return nil, err
	}
	defer func() { _ = guard(db.Close) }()
	kept := s.journal.kept
	if !s.journal.read {
		if kept, err = s.leftIn(db); err != nil {
			return nil, err
		}
	}
	l, err := s.read(ctx, db, false, kept)
	if err != nil && ctx.Err() == nil {
		s.log.Error("store: damaged; the records before the damage are used", "directory", s.dir, "records", l.count, "error", err)
		err = nil
	}
	return l.done(), err
}

// read reads a database from end to end, with the batches of the journal that it has not,
// and deletes what is not wanted if it may.
func (s *Store) read(ctx context.Context, db *pebble.DB, write bool, kept []byte) (*loader, error) {
	l := &loader{store: s, db: db, write: write, now: s.clock.now(), names: map[string]string{}}
	l.lay(kept)
	return l, guard(func() error { return l.run(ctx) })
}

// loader reads a database from end to end.
type loader struct {
	store   *Store
	db      *pebble.DB
	write   bool // what is not wanted can be deleted
	now     moment
	names   map[string]string
	over    map[string]bool     // the keys that count as the journal has them
	pieces  [][]busylamp.Record // the records, each piece of pieceSize: a slice of all would be copied as it grows
	count   int                 // of them
	expired int
	corrupt int
	first   error // what is wrong with the first corrupt one
	batch   *pebble.Batch
}

// done says what was found.
func (l *loader) done() []busylamp.Record {
	if l.corrupt > 0 {
		l.store.log.Error("store: records that cannot be read were dropped", "directory", l.store.dir, "records", l.corrupt, "error", l.first)
	}
	l.store.log.Debug("store: loaded", "directory", l.store.dir, "records", l.count, "expired", l.expired)
	return slices.Concat(l.pieces...)
}

// pieceSize is how many records are collected in one piece.
const pieceSize = 1 << 14

// add keeps a record.
func (l *loader) add(r busylamp.Record) {
	if l.count%pieceSize == 0 {
		l.pieces = append(l.pieces, make([]busylamp.Record, 0, pieceSize))
	}
	last := &l.pieces[len(l.pieces)-1]
	*last = append(*last, r)
	l.count++
}

func (l *loader) run(ctx context.Context) (err error) {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: recordsFrom})
	if err != nil {
		return err
	}
	defer func() {
		if e := it.Close(); err == nil {
			err = e
		}
	}()
	for ok, n := it.First(), 0; ok && l.count < MaxRecords; ok, n = it.Next(), n+1 {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if len(l.over) > 0 && l.over[string(it.Key())] {
			continue
		}
		l.take(it.Key(), value)
	}
	if it.Valid() {
		l.store.log.Error("store: too many records; the rest is left", "directory", l.store.dir, "most", MaxRecords)
	}
	l.flush(0)
	return nil
}

// lay takes what the journal has, if the database has not taken it, in the database's stead.
func (l *loader) lay(kept []byte) {
	if len(kept) == 0 {
		return
	}
	write := l.write
	l.write, l.over = false, make(map[string]bool)
	_ = l.store.latest.of(kept, func(key, value []byte) error {
		if l.over[string(key)] = true; len(value) > 0 {
			l.take(key, value)
		}
		return nil
	})
	l.write = write
}

// take keeps a record or drops it.
func (l *loader) take(key, value []byte) {
	r, err := parse(key, value)
	switch {
	case err != nil:
		if l.corrupt++; l.first == nil {
			l.first = fmt.Errorf("%.100q: %w", key, err)
		}
	case r.left(l.now) <= 0:
		l.expired++
	default:
		l.add(r.record(l.now, l.names))
		return
	}
	if !l.write {
		return
	}
	if l.batch == nil {
		l.batch = l.db.NewBatch()
	}
	_ = l.batch.Delete(key, nil) // into memory
	l.flush(sweepBatch - 1)
}

// flush deletes what was dropped, if there is more of it than that. It need not outlive a
// cut of power: the next Load would drop it again.
func (l *loader) flush(above uint32) {
	if l.batch == nil || l.batch.Count() <= above {
		return
	}
	if err := l.batch.Commit(pebble.NoSync); err != nil {
		l.write = false // and the gate says why
	}
	_ = l.batch.Close()
	l.batch = nil
}

// sweeper drops expired records as others are written: it looks at twice as many as are put,
// so that the store never holds much more than twice what is alive, and needs no timer.
type sweeper struct {
	since int64  // when the store was opened, ms since boot
	debt  int    // records that were put since it looked last
	next  []byte // the key that it looks at next
}

const (
	sweepDebt = 1024  // records to be put before it is worth looking
	sweepMost = 16384 // records to look at in one go
)

// sweep adds to a batch the deletion of some records that have expired.
func (s *Store) sweep(db *pebble.DB, batch *pebble.Batch, now moment) (err error) {
	w := &s.sweeper
	if w.debt < sweepDebt {
		return nil
	}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: recordsFrom})
	if err != nil {
		return err
	}
	defer func() {
		if e := it.Close(); err == nil {
			err = e
		}
	}()
	most := min(2*w.debt, sweepMost)
	w.debt -= most / 2
	ok := it.SeekGE(w.next)
	for ; ok && most > 0; most-- {
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if r, err := parse(it.Key(), value); err != nil || w.isDead(&r, now) {
			if err := batch.Delete(it.Key(), nil); err != nil {
				return err
			}
		}
		ok = it.Next()
	}
	w.next = w.next[:0] // from the beginning, next time
	if ok {
		w.next = append(w.next, it.Key()...)
	}
	return nil
}

// isDead says whether a record has expired. One of another boot goes by the wall clock,
// which may be set while we run: that alone does not drop what was alive when we began.
func (w *sweeper) isDead(r *stored, now moment) bool {
	return r.left(now) <= 0 && (r.end.boot == now.boot || now.up-w.since >= r.life)
}
