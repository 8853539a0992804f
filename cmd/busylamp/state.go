package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/busylamp/busylamp"
)

// stateDir is the state directory. It holds what was published when the sidecar ended, for
// its next life to take over. The file is taken away when it is read: entity-tags are good
// for one life. A lock keeps a second sidecar away.
type stateDir struct {
	path string
	lock *os.File
}

const (
	stateName    = "publications.json"
	stateVersion = 1
	maxState     = 1 << 30 // bytes
)

type stateFile struct {
	Version      int           `json:"version"`
	Publications []stateRecord `json:"publications"`
}

type stateRecord struct {
	Publisher  string              `json:"publisher"`
	Server     string              `json:"server"`
	Presentity busylamp.Presentity `json:"presentity"`
	Tag        string              `json:"tag"`
	State      busylamp.State      `json:"state"`
	Expires    time.Time           `json:"expires"`
	Refresh    time.Time           `json:"refresh"`
	Unsure     bool                `json:"unsure,omitempty"`
	Clear      bool                `json:"clear,omitempty"`
}

// servers returns the servers of the publishers by name. What an outbound proxy leads to
// may be another server, for all that we know.
func (c config) servers() map[string]string {
	m := make(map[string]string, len(c.Publishers))
	for _, p := range c.Publishers {
		m[p.Name] = p.Server
		if p.OutboundProxy != "" {
			m[p.Name] += " by " + p.OutboundProxy
		}
	}
	return m
}

// openState makes sure that the directory can be written and is nobody else's.
func openState(dir string) (*stateDir, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state: %q: %w (choose a directory that this user may write)", dir, err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state: %q: %w (choose a directory that this user may write)", dir, err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("state: %q: another busylamp uses this directory: stop it, or choose another directory", dir)
	}
	return &stateDir{dir, lock}, nil
}

// close lets the next one in.
func (d *stateDir) close() { d.lock.Close() }

// take returns what an earlier life left at these servers.
func (d *stateDir) take(servers map[string]string, log *slog.Logger) []busylamp.Record {
	path := filepath.Join(d.path, stateName)
	records, others, err := readState(path, servers, time.Now())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		aside := path + ".unreadable"
		log.Error("state not taken over; what was published lapses by itself", "file", path, "kept as", aside,
			"error", errors.Join(err, os.Rename(path, aside)))
		return nil
	}
	if others > 0 {
		log.Warn("publications at servers that are no longer configured lapse by themselves", "publications", others)
	}
	return records
}

// readState returns the records for these servers, and how many there are for others.
func readState(path string, servers map[string]string, now time.Time) (records []busylamp.Record, others int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	var s stateFile
	if err := json.NewDecoder(io.LimitReader(f, maxState)).Decode(&s); err != nil {
		return nil, 0, err
	}
	if s.Version != stateVersion {
		return nil, 0, fmt.Errorf("version %d of the format; this busylamp knows %d", s.Version, stateVersion)
	}
	for _, r := range s.Publications {
		who, err := busylamp.ParsePresentity(string(r.Presentity))
		if err != nil {
			return nil, 0, err
		}
		if server, ok := servers[r.Publisher]; !ok || server != r.Server {
			others++
			continue
		}
		records = append(records, busylamp.Record{Publisher: r.Publisher, Presentity: who, Tag: r.Tag, State: r.State,
			Expires: r.Expires.Sub(now), Refresh: r.Refresh.Sub(now), Unsure: r.Unsure, Clear: r.Clear})
	}
	return records, others, nil
}

// write leaves records for the next life. The file is whole or not there.
func (d *stateDir) write(records []busylamp.Record, servers map[string]string) error {
	if len(records) == 0 {
		return nil
	}
	now := time.Now()
	s := stateFile{Version: stateVersion, Publications: make([]stateRecord, 0, len(records))}
	for _, r := range records {
		s.Publications = append(s.Publications, stateRecord{Publisher: r.Publisher, Server: servers[r.Publisher],
			Presentity: r.Presentity, Tag: r.Tag, State: r.State, Expires: now.Add(r.Expires), Refresh: now.Add(r.Refresh),
			Unsure: r.Unsure, Clear: r.Clear})
	}
	f, err := os.CreateTemp(d.path, "."+stateName)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	defer os.Remove(f.Name())
	err = json.NewEncoder(f).Encode(s)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(d.path, stateName))
	}
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}
