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
	"time"

	"github.com/busylamp/busylamp"
)

// The state directory holds what was published when the sidecar ended, for its next life
// to take over. The file is taken away when it is read: entity-tags are good for one life.

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
	Presentity busylamp.Presentity `json:"presentity"`
	Tag        string              `json:"tag"`
	State      busylamp.State      `json:"state"`
	Expires    time.Time           `json:"expires"`
	Refresh    time.Time           `json:"refresh"`
	Unsure     bool                `json:"unsure,omitempty"`
}

// openState makes sure that the directory can be written, and takes what is there.
func openState(dir string, log *slog.Logger) ([]busylamp.Record, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state: %q: %w (choose a directory that this user may write)", dir, err)
	}
	probe, err := os.CreateTemp(dir, ".probe")
	if err != nil {
		return nil, fmt.Errorf("state: %q: %w (choose a directory that this user may write)", dir, err)
	}
	probe.Close()
	os.Remove(probe.Name())

	path := filepath.Join(dir, stateName)
	records, err := readState(path, time.Now())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		aside := path + ".unreadable"
		log.Error("state not taken over; what was published lapses by itself", "file", path, "error", err, "kept as", aside)
		return nil, os.Rename(path, aside)
	}
	return records, os.Remove(path)
}

func readState(path string, now time.Time) ([]busylamp.Record, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var s stateFile
	if err := json.NewDecoder(io.LimitReader(f, maxState)).Decode(&s); err != nil {
		return nil, err
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("version %d of the format; this busylamp knows %d", s.Version, stateVersion)
	}
	records := make([]busylamp.Record, 0, len(s.Publications))
	for _, r := range s.Publications {
		who, err := busylamp.ParsePresentity(string(r.Presentity))
		if err != nil {
			return nil, err
		}
		records = append(records, busylamp.Record{Publisher: r.Publisher, Presentity: who, Tag: r.Tag, State: r.State,
			Expires: r.Expires.Sub(now), Refresh: r.Refresh.Sub(now), Unsure: r.Unsure})
	}
	return records, nil
}

// writeState leaves records for the next life. The file is whole or not there.
func writeState(dir string, records []busylamp.Record) error {
	now := time.Now()
	s := stateFile{Version: stateVersion, Publications: make([]stateRecord, 0, len(records))}
	for _, r := range records {
		s.Publications = append(s.Publications, stateRecord{Publisher: r.Publisher, Presentity: r.Presentity, Tag: r.Tag,
			State: r.State, Expires: now.Add(r.Expires), Refresh: now.Add(r.Refresh), Unsure: r.Unsure})
	}
	f, err := os.CreateTemp(dir, "."+stateName)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	defer os.Remove(f.Name())
	err = json.NewEncoder(f).Encode(s)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, stateName))
	}
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}
