package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/busylamp/busylamp"
)

// settleEvery is how long what was committed waits for the database, and with that for a
// sync: what a cut of power can take back.
const settleEvery = 100 * time.Millisecond

// adopt brings what is kept into a database that was just opened, what an earlier life left
// in its journal included, and begins a new journal. The order matters: until the database
// has all of it, and the salt of the new journal, the old one counts.
func (s *Store) adopt(db *pebble.DB, g *gate) error {
	j := &s.journal
	if !j.read {
		kept, err := s.leftIn(db)
		if err != nil {
			return err
		}
		j.kept, j.read = kept, true
	}
	m := newMark()
	if err := s.bring(db, g, m); err != nil {
		return err
	}
	j.settled()
	j.mark = m
	j.close()
	if err := j.create(); err != nil {
		s.journalFails(err)
	}
	return nil
}

// leftIn returns the batches of an earlier life that a database has not. The directory is to
// be ours before, so that nobody adds to them. Damage is logged; an error is one that may be
// gone at the next attempt.
func (s *Store) leftIn(db *pebble.DB) ([]byte, error) {
	m, err := markOf(db)
	if err != nil || m == (mark{}) {
		return nil, err
	}
	kept, err := s.journal.left(m)
	if err == nil {
		return kept, nil
	}
	if !isCorrupt(err) {
		return nil, err
	}
	s.log.Error("store: the journal is damaged; the changes before the damage are used", "file", s.journal.name, "bytes", len(kept), "error", err)
	return kept, nil
}

// markOf returns what a database says of its journal; a zero mark means that it has none.
func markOf(db *pebble.DB) (m mark, err error) {
	err = guard(func() error {
		value, closer, err := db.Get(markKey)
		if errors.Is(err, pebble.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		defer closer.Close()
		if len(value) == 16 {
			m = mark{binary.BigEndian.Uint64(value), binary.BigEndian.Uint64(value[8:])}
		}
		return nil
	})
	return m, err
}

// keep has changes survive a kill: by a write to the journal, or, when it cannot be written
// or is full, by bringing all that is kept into the database.
func (s *Store) keep(ops []busylamp.StoreOp, now moment) error {
	j := &s.journal
	from := j.add(ops, now)
	if len(j.kept) <= maxJournal {
		err := j.write(from)
		if err == nil {
			j.broken = false
			if from == 0 && s.every > 0 {
				s.due.Reset(s.every)
			}
			return nil
		}
		s.journalFails(err)
	}
	err := s.settle()
	if err != nil && len(j.kept) > 0 { // else the database has it, and the error is of what came after
		j.cut(from)
	}
	return err
}

// journalFails tells, once, that each commit is one of the database for now.
func (s *Store) journalFails(err error) {
	if !s.journal.broken {
		s.journal.broken = true
		s.log.Warn("store: the journal cannot be written; the database takes each change at once", "file", s.journal.name, "error", err)
	}
}

// settle brings what is kept into the open database. After an error it is still kept, in
// memory and in the journal; the next Commit tries again and says why, or, where nobody
// commits, a timer tries.
func (s *Store) settle() error {
	j := &s.journal
	if len(j.kept) == 0 {
		s.held = false
		return nil
	}
	err := s.owns()
	if err == nil {
		err = s.room()
	}
	if err != nil {
		s.held = true
		s.due.Reset(maxPause)
		return s.dispossessed(err)
	}
	if err := s.bring(s.db, s.gate, j.mark); err != nil {
		return s.fault(err)
	}
	j.settled()
	s.held, s.pause = false, 0
	s.due.Stop()
	if err := s.owns(); err != nil { // whoever took it meanwhile has not seen what we wrote
		return s.dispossessed(err)
	}
	return nil
}

// bring writes what is kept into the database behind a gate, and that its journal is there up
// to a mark. All of it is one batch, and on the disk when bring returns nil.
func (s *Store) bring(db *pebble.DB, g *gate, m mark) error {
	now := s.clock.now()
	err := guard(func() error {
		batch := db.NewBatch()
		defer batch.Close()
		if err := s.sweep(db, batch, now); err != nil {
			return err
		}
		err := s.latest.of(s.journal.kept, func(key, value []byte) error {
			if len(value) == 0 {
				return batch.Delete(key, nil)
			}
			s.sweeper.debt++
			return batch.Set(key, value, nil)
		})
		if err != nil {
			return err
		}
		if err := batch.Set(markKey, m.bytes(), nil); err != nil {
			return err
		}
		return batch.Commit(pebble.Sync)
	})
	if err == nil {
		err = g.err() // nothing comes through a shut one
	}
	return err
}

// latest finds the last change of each key in batches.
type latest struct {
	seed maphash.Seed
	last map[uint64][]byte // of keys with that hash, the key of the last change; its place tells which
}

// maxLatest bounds what is kept of a map, in entries.
const maxLatest = 1 << 15

// of calls f for the last change of each key, and, where two keys have one hash, for more of
// theirs, in order.
func (l *latest) of(batches []byte, f func(key, value []byte) error) error {
	if l.last == nil {
		l.seed, l.last = maphash.MakeSeed(), make(map[uint64][]byte)
	}
	_ = changes(batches, func(key, _ []byte) error {
		l.last[maphash.Bytes(l.seed, key)] = key
		return nil
	})
	err := changes(batches, func(key, value []byte) error {
		if last := l.last[maphash.Bytes(l.seed, key)]; &last[0] != &key[0] && bytes.Equal(last, key) {
			return nil
		}
		return f(key, value)
	})
	if len(l.last) > maxLatest {
		l.last = nil
	}
	clear(l.last)
	return err
}
