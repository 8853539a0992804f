package store

import (
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
)

// options are pebble's. Records are small, few enough and read only at the start: little
// memory, few files, one compaction at a time.
func (s *Store) options(g *gate) *pebble.Options {
	return &pebble.Options{
		FS:     g,
		Lock:   s.lock,
		Logger: pebbleLog{s.log, g},
		EventListener: &pebble.EventListener{
			// Pebble would try the same again at once, and for ever.
			BackgroundError: g.fail,
			DataCorruption:  func(i pebble.DataCorruptionInfo) { g.fail(i.Details) },
		},
		// The first that tells damage within a log from the torn end that a kill leaves.
		FormatMajorVersion: pebble.FormatWALSyncChunks,
		CacheSize:          8 << 20,
		MaxOpenFiles:       64,
		// A compaction writes all of the database anew, for changes are of anybody in it; so
		// there are few, of many changes each. Memory is used as far as there are changes.
		MemTableSize:                8 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       8,
		// A compaction that cannot end must not hold up a commit.
		L0StopWritesThreshold:      1 << 30,
		MaxManifestFileSize:        1 << 20,
		DisableTableStats:          true,
		CompactionConcurrencyRange: func() (int, int) { return 1, 1 },
	}
}

// pebbleLog passes on what pebble says, for whoever wants to know that much. What it takes
// for the end of the world is the end of the database.
type pebbleLog struct {
	log  *slog.Logger
	gate *gate
}

func (l pebbleLog) Infof(format string, args ...any) {
	l.log.Debug("pebble: " + fmt.Sprintf(format, args...))
}

func (l pebbleLog) Errorf(format string, args ...any) { l.Infof(format, args...) }

// Fatalf is expected not to return. Behind a shut gate what comes after it does no harm.
func (l pebbleLog) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	for _, a := range args {
		if e, ok := a.(error); ok {
			err = e
		}
	}
	l.gate.fail(err)
}
