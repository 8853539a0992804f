// Package store keeps publication records in an embedded database (pebble), so that the
// next life of the sidecar refreshes or withdraws what this one has published. Nothing that
// befalls the disk ends or hangs the process: Commit answers with an error, and once the
// disk is well again it goes on by itself.
package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/busylamp/busylamp"
)

const (
	// MaxOps is how many changes one Commit takes.
	MaxOps = 1 << 16
	// MaxRecords is how many records Load returns.
	MaxRecords = 2_000_000

	// defaultReserve is the room, in bytes, below which nothing is written: what the store
	// needs to tidy up after itself, and a little for the others on the disk.
	defaultReserve = 16 << 20

	minPause = time.Second // between attempts to open a store that failed; doubles
	maxPause = 16 * time.Second
)

// ErrLost is what Commit answers, once, when the store had to begin anew: what was committed
// before is gone from it, and every record is to be put again.
var ErrLost = errors.New("the store began anew without its records: put all of them again")

var errClosed = errors.New("the store is closed")

// Options are a store's options.
type Options struct {
	Log *slog.Logger // nil for none

	clock   *clock // nil for the machine's
	fs      vfs.FS // nil for the machine's
	reserve int64  // bytes; 0 for the default, negative for none
}

// Store is a [busylamp.Store] in a directory.
type Store struct {
	dir     string
	log     *slog.Logger
	clock   *clock
	fs      vfs.FS
	reserve int64
	token   string // names this life in the directory's OWNER file

	mu      sync.Mutex
	db      *pebble.DB    // nil while it cannot be opened
	gate    *gate         // what db writes through
	done    chan struct{} // closed when db is
	lock    *pebble.Lock  // on the directory; nil while it is not ours
	owned   bool          // OWNER holds our token, as far as we know
	bad     error         // why what is in the directory is to be set aside first
	lost    bool          // the next Commit says ErrLost
	final   error         // why the store is of no more use: fenced, closed, pebble's panic
	cause   error         // why db is nil
	retry   time.Duration // since boot: when db is to be opened again
	pause   time.Duration // that was waited last
	workers sync.WaitGroup

	sweeper    sweeper
	key, value []byte // of the record that is being written
}

var _ busylamp.Store = (*Store)(nil)

// Open opens the store in a directory, which it makes if need be. What it cannot read there
// it sets aside under another name, and begins with an empty store; on a full disk it begins
// with what can be read, and writes once there is room. An error is about the directory:
// another sidecar uses it, or it cannot be read or written.
func Open(dir string, o Options) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", dir, err)
	}
	s := &Store{dir: dir, log: o.Log, clock: o.clock, fs: o.fs, reserve: o.reserve, token: newToken()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.clock == nil {
		s.clock = systemClock()
	}
	if s.fs == nil {
		s.fs = vfs.Default
	}
	if s.reserve == 0 {
		s.reserve = defaultReserve
	}
	s.sweeper.since = s.clock.now().up
	s.mu.Lock()
	defer s.mu.Unlock()
	switch err := s.open(); {
	case err == nil:
	case isFull(err):
		s.cause = err
		s.log.Warn("store: no room to write; records are not kept", "directory", dir, "error", err)
	default:
		s.unlock()
		return nil, fmt.Errorf("store %s: %w", dir, err)
	}
	s.lost = false // nothing has been committed that could be
	return s, nil
}

func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Close closes the store. Nothing is lost without it.
func (s *Store) Close() error {
	s.mu.Lock()
	if !errors.Is(s.final, errClosed) {
		if s.db != nil && s.final == nil {
			s.retire(errClosed)
		}
		s.final = errClosed
		s.unlock()
	}
	s.mu.Unlock()
	s.workers.Wait()
	return nil
}

// Commit makes changes durable, all of them or none. After [busylamp.ErrFenced] nothing can
// be committed any more; after [ErrLost] all records are to be put; after another error the
// same changes may be committed again, or newer ones. Without changes it tells whether
// there could be any. At most MaxOps at a time.
func (s *Store) Commit(ctx context.Context, ops []busylamp.StoreOp) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(ops) > MaxOps {
		return fmt.Errorf("store %s: %d changes at once; commit at most %d", s.dir, len(ops), MaxOps)
	}
	for i := range ops {
		if err := check(&ops[i].Record); err != nil {
			return fmt.Errorf("store %s: %w", s.dir, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.commit(ops)
	if err != nil {
		return fmt.Errorf("store %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) commit(ops []busylamp.StoreOp) error {
	if err := s.ready(); err != nil {
		return err
	}
	if s.lost {
		s.lost = false
		return ErrLost
	}
	if err := s.room(); err != nil {
		return err
	}
	if err := s.write(ops); err != nil {
		return err
	}
	if err := s.owns(); err != nil { // whoever took it meanwhile has not seen what we wrote
		return s.dispossessed(err)
	}
	s.pause = 0
	return nil
}

// ready sees to it that there is an open database, and that it is ours.
func (s *Store) ready() error {
	if s.final != nil {
		return s.final
	}
	if s.db != nil {
		if err := s.gate.err(); err != nil {
			s.retire(err)
		} else if err := s.owns(); err != nil {
			if err = s.dispossessed(err); s.final != nil || s.db != nil {
				return err
			}
		}
	}
	if s.db != nil {
		return nil
	}
	if s.clock.up() < s.retry {
		return s.cause
	}
	err := s.open()
	switch {
	case err == nil:
		s.log.Info("store: records are kept again", "directory", s.dir)
	case errors.Is(err, busylamp.ErrFenced):
		s.final = err
	default:
		s.cause = err
		s.wait()
	}
	return err
}

// write commits one batch. The room that it needs was there a moment ago.
func (s *Store) write(ops []busylamp.StoreOp) error {
	now := s.clock.now()
	err := guard(func() error {
		batch := s.db.NewBatch()
		defer batch.Close()
		if err := s.sweep(batch, now); err != nil {
			return err
		}
		for i := range ops {
			if err := s.put(batch, &ops[i], now); err != nil {
				return err
			}
		}
		return batch.Commit(pebble.Sync)
	})
	if err == nil && s.gate.err() == nil {
		return nil
	}
	return s.fault(err)
}

// put writes one change into a batch.
func (s *Store) put(batch *pebble.Batch, op *busylamp.StoreOp, now moment) error {
	s.key = appendKey(s.key[:0], &op.Record)
	if op.Delete || op.Record.Expires < time.Millisecond {
		return batch.Delete(s.key, nil)
	}
	s.sweeper.debt++
	s.value = appendValue(s.value[:0], s.key, &op.Record, now)
	return batch.Set(s.key, s.value, nil)
}

// room says whether there is enough of it to write.
func (s *Store) room() error {
	if s.reserve < 0 {
		return nil
	}
	use, err := s.fs.GetDiskUsage(s.dir)
	if err != nil {
		return nil // the write tells
	}
	if int64(use.AvailBytes) < s.reserve {
		return fmt.Errorf("%w: %d MB are free, and %d are wanted; make room", syscall.ENOSPC, use.AvailBytes>>20, s.reserve>>20)
	}
	return nil
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
