package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/busylamp/busylamp"
)

// format names, under formatKey, what the database holds. A key of its own begins with a
// zero byte; recordsFrom is the first key of a record.
var (
	formatKey   = []byte("\x00format")
	format      = []byte("busylamp publications 1")
	recordsFrom = []byte{1}
)

var errInUse = errors.New("another busylamp uses this directory: stop it, or give this one a `state:` of its own")

// open opens the database, after setting aside what it cannot be opened from.
func (s *Store) open() error {
	if err := s.room(); err != nil {
		return err
	}
	for fresh := false; ; fresh = true {
		if s.bad != nil {
			if err := s.setAside(s.bad); err != nil {
				return err
			}
			s.bad, s.lost = nil, true
		}
		err := s.attempt()
		if err == nil || !isCorrupt(err) || fresh {
			return err
		}
		s.bad = err
	}
}

// attempt opens the database as it is.
func (s *Store) attempt() error {
	if err := s.take(); err != nil {
		return err
	}
	gate := newGate(s.fs)
	db, err := openPebble(s.dir, s.options(gate))
	if err == nil {
		err = checkFormat(db)
	}
	if err == nil {
		err = s.adopt(db, gate)
	}
	if err != nil {
		gate.fail(err)
	}
	if err := gate.err(); err != nil { // the first, which later ones follow from
		s.shut(db)
		return err
	}
	s.db, s.gate, s.done, s.cause = db, gate, make(chan struct{}), nil
	s.due = time.NewTimer(time.Hour)
	s.due.Stop()
	s.held = false
	s.workers.Add(1)
	go s.watch(gate, s.done, s.due.C)
	return nil
}

// checkFormat sees whether the database is ours, and of this version; an empty one becomes
// so.
func checkFormat(db *pebble.DB) error {
	return guard(func() error {
		value, closer, err := db.Get(formatKey)
		if err == nil {
			defer closer.Close()
			if !bytes.Equal(value, format) {
				return fmt.Errorf("a store of the format %.40q; this program knows %q", value, format)
			}
			return nil
		}
		if !errors.Is(err, pebble.ErrNotFound) {
			return err
		}
		it, err := db.NewIter(nil)
		if err != nil {
			return err
		}
		foreign := it.First()
		if err := it.Close(); err != nil {
			return err
		}
		if foreign {
			return errors.New("a database that is not a store of busylamp's")
		}
		return db.Set(formatKey, format, pebble.Sync)
	})
}

// watch brings what was committed into the database when that is due, and closes one whose
// gate is shut at once: pebble would go on trying.
func (s *Store) watch(g *gate, done chan struct{}, due <-chan time.Time) {
	defer s.workers.Done()
	for shut := false; !shut; {
		select {
		case <-done:
			return
		case <-g.shut:
			shut = true
		case <-due:
		}
		s.mu.Lock()
		if s.gate == g && s.final == nil {
			if err := g.err(); err != nil {
				s.retire(err)
			} else {
				_ = s.settle() // the next Commit tells
			}
		}
		s.mu.Unlock()
	}
}

// retire closes the database and says why. It is opened again by a Commit, after a pause.
func (s *Store) retire(why error) {
	s.shut(s.db)
	close(s.done)
	s.due.Stop()
	s.db, s.gate = nil, nil
	if s.cause = why; errors.Is(why, errClosed) {
		return
	}
	s.log.Warn("store: records are not kept", "directory", s.dir, "error", why)
	if isCorrupt(why) {
		s.bad = why
	}
	s.wait()
}

// shut closes a database; nil is none.
func (s *Store) shut(db *pebble.DB) {
	if db == nil {
		return
	}
	if err := guard(db.Close); err != nil {
		s.log.Debug("store: closing the database", "directory", s.dir, "error", err)
	}
}

// fault abandons a database that failed, and says why. One that panicked may hold its locks,
// so that it cannot even be closed: it, and with it the directory, is of no more use.
func (s *Store) fault(err error) error {
	if p, ok := errors.AsType[panicked](err); ok {
		s.gate.fail(p)
		s.final = p
		s.log.Error("store: records are not kept until the next start", "directory", s.dir, "error", p)
		return p
	}
	if err != nil {
		s.gate.fail(err)
	}
	err = s.gate.err()
	s.retire(err)
	return err
}

// wait puts off the next attempt to open the database.
func (s *Store) wait() {
	s.pause = min(max(2*s.pause, minPause), maxPause)
	s.retry = s.clock.up() + s.pause
}

// isCorrupt tells what is wrong with the contents of the directory from what is wrong with
// the way to it. There is no list of what pebble says of a damaged database, so whatever is
// not plainly something else is damage.
func isCorrupt(err error) bool {
	if _, ok := errors.AsType[writeError](err); ok {
		return false
	}
	for _, other := range []error{errInUse, busylamp.ErrFenced, fs.ErrPermission, syscall.EROFS, syscall.ENOSPC,
		syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, other) {
			return false
		}
	}
	return true
}

// panicked is a panic of pebble's.
type panicked struct{ value any }

func (p panicked) Error() string { return fmt.Sprintf("pebble panicked: %.200v", p.value) }

// guard turns a panic into an error.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked{p}
		}
	}()
	return f()
}

func openPebble(dir string, o *pebble.Options) (db *pebble.DB, err error) {
	err = guard(func() (err error) {
		db, err = pebble.Open(dir, o)
		return err
	})
	return db, err
}

// readOnly opens what is there without writing, for a start on a full disk. Neither a
// database nor an error means that there is none.
func (s *Store) readOnly() (*pebble.DB, error) {
	if _, err := os.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	o := s.options(newGate(s.fs))
	o.ReadOnly, o.ErrorIfNotExists = true, true
	db, err := openPebble(s.dir, o)
	if errors.Is(err, pebble.ErrDBDoesNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	value, closer, err := db.Get(formatKey)
	if err == nil {
		ours := bytes.Equal(value, format)
		if _ = closer.Close(); ours {
			return db, nil
		}
	}
	_ = db.Close()
	if errors.Is(err, pebble.ErrNotFound) {
		err = nil
	}
	return nil, err // what is not ours is set aside when there is room
}
