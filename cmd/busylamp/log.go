package main

import (
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// newLogger returns a logger as configured.
func newLogger(cfg logConfig, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level = slog.LevelInfo // load has checked it
	}
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// maxLogLines bounds what waits to be written.
const maxLogLines = 8192

// logWriter writes lines from a goroutine of its own, so that a terminal or a journal
// that does not read holds nothing else up. Lines that find no room are dropped, and
// their number is written when there is room again.
type logWriter struct {
	w       io.Writer
	lines   chan []byte
	dropped atomic.Uint64
	closing sync.Once
	closed  chan struct{}
	done    chan struct{}
}

func newLogWriter(w io.Writer) *logWriter {
	l := &logWriter{w: w, lines: make(chan []byte, maxLogLines), closed: make(chan struct{}), done: make(chan struct{})}
	go l.run()
	return l
}

// Write takes one line. It never fails and never waits.
func (l *logWriter) Write(line []byte) (int, error) {
	select {
	case l.lines <- append([]byte(nil), line...):
	default:
		l.dropped.Add(1)
	}
	return len(line), nil
}

func (l *logWriter) run() {
	defer close(l.done)
	for {
		select {
		case line := <-l.lines:
			l.write(line)
		case <-l.closed:
			for range len(l.lines) {
				l.write(<-l.lines)
			}
			return
		}
	}
}

func (l *logWriter) write(line []byte) {
	l.w.Write(line)
	if n := l.dropped.Swap(0); n > 0 {
		fmt.Fprintf(l.w, "busylamp: %d log lines were dropped: they were not read fast enough\n", n)
	}
}

// close writes what waits, unless nobody reads. What is logged after it is lost.
func (l *logWriter) close() {
	l.closing.Do(func() { close(l.closed) })
	select {
	case <-l.done:
	case <-time.After(time.Second):
	}
}

// quotas bound the lines that each source brings about, lest one that changes its mind all the
// time fills the disk and drops the others' lines. What is not told is counted. They belong to
// one goroutine; the zero value is ready.
type quotas struct {
	bySource map[string]*quota // as many as there are in the configuration
	waiting  bool              // something that is counted is to be told
}

type quota struct {
	lines  float64 // that may be told at once
	filled time.Time
	untold int
	since  time.Time // when the first of these was
}

const (
	quotaSize   = 200 // lines at once
	quotaRate   = 50  // lines a second
	quotaReport = time.Second
)

// lets tells whether a line may be told, and counts it if not.
func (q *quotas) lets(source string, now time.Time) bool {
	one := q.bySource[source]
	if one == nil {
		if q.bySource == nil {
			q.bySource = make(map[string]*quota)
		}
		one = &quota{lines: quotaSize, filled: now}
		q.bySource[source] = one
	}
	one.lines = min(quotaSize, one.lines+max(0, now.Sub(one.filled).Seconds())*quotaRate)
	one.filled = now
	if one.lines >= 1 {
		one.lines--
		return true
	}
	if one.untold == 0 {
		one.since, q.waiting = now, true
	}
	one.untold++
	return false
}

// tell tells how many lines there were too many of each source, once a second.
func (q *quotas) tell(now time.Time, say func(source string, untold int)) {
	if !q.waiting {
		return
	}
	q.waiting = false
	for source, one := range q.bySource {
		if one.untold > 0 && now.Sub(one.since) >= quotaReport {
			say(source, one.untold)
			one.untold = 0
		}
		q.waiting = q.waiting || one.untold > 0
	}
}
