package pluginhost

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// streak counts failures in a row. Those of a file that is away are a row of their own: when it
// is back it has all its tries.
type streak struct {
	n    int
	away bool
}

// add returns how many there are with one more.
func (s *streak) add(err error) int {
	if away := isAbsence(err); away != s.away {
		*s = streak{away: away}
	}
	s.n++
	return s.n
}

func isAbsence(err error) bool {
	var a absence
	return errors.As(err, &a)
}

// hopeful tells whether a plugin is started again by itself after so many failures in a row.
func (t timing) hopeful(failures int, err error) bool {
	var no refusal
	return !errors.As(err, &no) && (failures < t.failures || isAbsence(err))
}

// level is how loudly one of so many failures in a row is told. A file that is away for long
// has been told of enough.
func (t timing) level(failures int, first slog.Level) slog.Level {
	if failures > t.failures {
		return slog.LevelDebug
	}
	return first
}

// delay is how long to wait after so many failures in a row. A quarter of it is chance, lest
// all plugins of a machine start at once.
func (t timing) delay(failures int) time.Duration {
	d := t.first << min(failures-1, 20)
	d = min(d, t.most)
	return d - time.Duration(rand.Int64N(int64(d)/4+1))
}
