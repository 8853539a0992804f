// Package store keeps publication records in an embedded database (pebble), so that the
// next life of the sidecar refreshes or withdraws what this one has published. Nothing that
// befalls the disk ends or hangs the process: Commit answers with an error, and once the
// disk is well again it goes on by itself. A journal beside the database makes a Commit
// cheap.
package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
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

	roomEvery = time.Second // is how often a Commit looks whether there is room

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

	clock   *clock        // nil for the machine's
	fs      vfs.FS        // nil for the machine's
	reserve int64         // bytes; 0 for the default, negative for none
	every   time.Duration // 0 for settleEvery, negative for never
}

// Store is a [busylamp.Store] in a directory.
type Store struct {
	dir     string
	log     *slog.Logger
	clock   *clock
	fs      vfs.FS
	reserve int64
	every   time.Duration // from a commit to when the database has it; negative for never
	owner   string        // the OWNER file's path
	token   string        // names this life in it

	mu      sync.Mutex
	db      *pebble.DB    // nil while it cannot be opened
	gate    *gate         // what db writes through
	done    chan struct{} // closed when db is
	lock    *pebble.Lock  // on the directory; nil while it is not ours
	owned   bool          // OWNER holds our token, as far as we know
	seen    sight         // of OWNER, when it held our token
	bad     error         // why what is in the directory is to be set aside first
	lost    bool          // the next Commit says ErrLost
	final   error         // why the store is of no more use: fenced, closed, pebble's panic
	cause   error         // why db is nil
	retry   time.Duration // since boot: when db is to be opened again
	pause   time.Duration // that was waited last
	workers sync.WaitGroup

	journal journal
	held    bool          // what is kept could not go to the database
	due     *time.Timer   // when it goes there, of the open database
	looked  time.Duration // since boot: when there was room
	latest  latest
	sweeper sweeper
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
	s := &Store{dir: dir, log: o.Log, clock: o.clock, fs: o.fs, reserve: o.reserve, every: o.every, token: newToken()}
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
	if s.every == 0 {
		s.every = settleEvery
	}
	s.owner = s.path(ownerFile)
	s.journal.fs, s.journal.name = s.fs, s.path(journalFile)
	s.sweeper.since = s.clock.now().up
	s.looked = -roomEvery
	s.mu.Lock()
	defer s.mu.Unlock()
	switch err := s.open(); {
	case err == nil:
	case isFull(err):
		s.cause = err
		s.log.Warn("store: no room to write; records are not kept", "directory", dir, "error", err)
	default:
		s.unlock()
		s.journal.close()
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
			if err := s.settle(); err != nil {
				s.log.Warn("store: the last changes stay in the journal", "file", s.journal.name, "error", err)
			}
		}
		if s.db != nil && s.final == nil {
			s.retire(errClosed)
		}
		s.final = errClosed
		s.journal.close()
		s.unlock()
	}
	s.mu.Unlock()
	s.workers.Wait()
	return nil
}

// Commit has changes survive a kill of the process, all of them or none; a cut of power can
// take back the last ones, see settleEvery. After [busylamp.ErrFenced] nothing can be
// committed any more; after [ErrLost] all records are to be put; after another error the
// same changes may be committed again, or newer ones. Without changes it tells whether there
// could be any. At most MaxOps at a time.
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
	if errors.Is(err, fs.ErrNotExist) && s.db == nil && s.final == nil {
		err = s.commit(ops) // the directory was removed: it begins anew, and says so
	}
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
	now := s.clock.now()
	if s.held {
		if err := s.settle(); err != nil {
			return err
		}
	}
	if up := time.Duration(now.up) * time.Millisecond; up-s.looked >= roomEvery {
		if err := s.room(); err != nil {
			return err
		}
		s.looked = up
	}
	if len(ops) > 0 {
		if err := s.keep(ops, now); err != nil {
			return err
		}
	}
	// Whoever takes the store signs before he reads the journal: if it is still ours now, he
	// reads what was just written.
	if err := s.still(); err != nil {
		return s.dispossessed(err)
	}
	return nil
}

// ready sees to it that there is an open database, and that it is ours.
func (s *Store) ready() error {
	if s.final != nil {
		return s.final
	}
	if s.db != nil {
		err := s.gate.err()
		if err == nil {
			return nil
		}
		s.retire(err)
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
