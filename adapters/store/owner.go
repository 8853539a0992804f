package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/sys/unix"

	"github.com/busylamp/busylamp"
)

// The file OWNER in the directory holds the token of the life that opened the store last.
// The lock on the directory should be enough, but not every file system keeps locks, and a
// store that several sidecars share will have none: so each Commit sees whether the file is
// still as we left it, and whatever goes to the database is between two looks at the token.
const ownerFile = "OWNER"

// sight is what one look at a file tells without reading it.
type sight struct {
	device, inode    uint64
	size             int64
	modified, change unix.Timespec
}

func look(name string) (sight, bool) {
	var st unix.Stat_t
	err := unix.Stat(name, &st)
	return sight{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}, err == nil
}

// take locks the directory and makes it ours.
func (s *Store) take() error {
	if s.owned {
		err := s.owns()
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.vanished()
	}
	if s.lock == nil {
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			return err
		}
		lock, err := pebble.LockDirectory(s.dir, s.fs)
		if err != nil {
			return lockError(err)
		}
		s.lock = lock
	}
	if err := s.sign(); err != nil {
		return err
	}
	s.owned = true
	return nil
}

// lockError tells a lock that is held from a file that cannot be locked. Within one process
// pebble's error has no number.
func lockError(err error) error {
	if number, ok := errors.AsType[syscall.Errno](err); ok && number != syscall.EAGAIN {
		return err
	}
	return fmt.Errorf("%w (%w)", errInUse, err)
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// sign puts our token in the place of another's, whole or not at all.
func (s *Store) sign() error {
	name := s.owner
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(s.token)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// owns returns nil if the store is ours, ErrFenced if it is somebody else's, and
// fs.ErrNotExist if it is not there any more.
func (s *Store) owns() error {
	f, err := os.Open(s.owner)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [64]byte // longer than any token
	n, err := io.ReadFull(f, b[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if string(b[:n]) != s.token {
		return fmt.Errorf("%w: %s is not as we left it", busylamp.ErrFenced, s.owner)
	}
	return nil
}

// still is owns by one system call, if nothing has touched the file since it was read.
func (s *Store) still() error {
	seen, ok := look(s.owner)
	if ok && seen == s.seen {
		return nil
	}
	err := s.owns()
	if err == nil { // whoever came after our look has left another sight
		s.seen = seen
	}
	return err
}

// dispossessed abandons a database that owns said is somebody else's, or gone: nothing more
// is written to it. After another error it is still ours.
func (s *Store) dispossessed(err error) error {
	fenced := errors.Is(err, busylamp.ErrFenced)
	if !fenced && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.gate.fail(err)
	s.retire(err)
	s.bad, s.retry = nil, 0
	if fenced {
		s.final = err
		s.unlock()
	}
	return err
}

// vanished forgets a directory that somebody removed.
func (s *Store) vanished() {
	s.unlock()
	s.lost = true
	s.log.Warn("store: removed by somebody; it begins anew", "directory", s.dir)
}

func (s *Store) unlock() {
	if s.lock != nil {
		_ = s.lock.Close()
	}
	s.lock, s.owned = nil, false
}
