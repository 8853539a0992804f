package pluginhost

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// logs brings what a process logs into ours: lines of JSON as hclog and slog write them with
// their level and fields, others as they are. There is a bound to the lines of a second and
// to the length of each.
type logs struct {
	log *slog.Logger

	mu     sync.Mutex
	bucket bucket
	lost   int
	panics bool   // what follows belongs to the report of a crash
	crash  string // its first line
	last   string
}

func newLogs(log *slog.Logger, rate float64) *logs {
	return &logs{log: log, bucket: newBucket(rate, 2*rate, time.Now())}
}

// level returns what is worth being written at all, as BUSYLAMP_LOG_LEVEL tells it.
func (l *logs) level() string {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn} {
		if l.log.Enabled(context.Background(), level) {
			return strings.ToLower(level.String())
		}
	}
	return "error"
}

// read takes lines to their end.
func (l *logs) read(r io.Reader) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		cut := errors.Is(err, bufio.ErrBufferFull)
		l.line(string(line), cut)
		for errors.Is(err, bufio.ErrBufferFull) { // the rest of a long line is dropped
			_, err = in.ReadSlice('\n')
		}
		if err != nil {
			l.tellLost()
			return
		}
	}
}

// Write takes the output that comes by go-plugin's gRPC stream: what a Go plugin prints
// once it serves.
func (l *logs) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		l.line(line, len(line) > maxLine)
	}
	return len(p), nil
}

func (l *logs) line(line string, cut bool) {
	level, message, fields := l.parse(line)
	if message == "" {
		return
	}
	if cut {
		message += " (cut)"
	}
	l.mu.Lock()
	if level >= slog.LevelInfo {
		l.last = message
	}
	ok := l.bucket.allow(time.Now())
	if !ok {
		l.lost++
	}
	l.mu.Unlock()
	if ok {
		l.tellLost()
		l.log.LogAttrs(context.Background(), level, message, fields...)
	}
}

// tellLost says how much was dropped since it did last.
func (l *logs) tellLost() {
	l.mu.Lock()
	n := l.lost
	l.lost = 0
	l.mu.Unlock()
	if n > 0 {
		l.log.Warn("the plugin logs too much: lines were dropped", "lines", n)
	}
}

// ending returns what the process said last: of a crash its first line.
func (l *logs) ending() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.crash != "" {
		return l.crash
	}
	return l.last
}

// parse takes a line apart.
func (l *logs) parse(line string) (slog.Level, string, []slog.Attr) {
	if line = strings.TrimSpace(line); strings.HasPrefix(line, "{") && len(line) < maxLine {
		if level, message, fields, ok := parseJSON(line); ok {
			return level, message, fields
		}
	}
	message := clean(line, maxLine)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, sign := range []string{"panic: ", "fatal error: ", "Traceback (most recent call last)"} {
		if strings.HasPrefix(message, sign) {
			l.panics, l.crash = true, clean(message, maxText)
		}
	}
	if l.panics {
		if strings.HasPrefix(l.crash, "Traceback") && line != "" && !strings.HasPrefix(line, "File ") {
			l.crash = clean(message, maxText) // Python names the error in the last line
		}
		return slog.LevelError, message, nil
	}
	for _, w := range []struct {
		sign  string
		level slog.Level
	}{{"[TRACE]", slog.LevelDebug}, {"[DEBUG]", slog.LevelDebug}, {"[WARN]", slog.LevelWarn}, {"[ERROR]", slog.LevelError}} {
		if rest, ok := strings.CutPrefix(message, w.sign); ok {
			return w.level, strings.TrimSpace(rest), nil
		}
	}
	return slog.LevelInfo, strings.TrimSpace(strings.TrimPrefix(message, "[INFO]")), nil
}

// maxFields bounds the fields of a line.
const maxFields = 16

// parseJSON takes a line of hclog's or slog's JSON apart.
func parseJSON(line string) (level slog.Level, message string, fields []slog.Attr, ok bool) {
	var raw map[string]any
	if json.Unmarshal([]byte(line), &raw) != nil {
		return 0, "", nil, false
	}
	text := func(keys ...string) (string, bool) {
		for _, k := range keys {
			if s, is := raw[k].(string); is {
				return s, true
			}
		}
		return "", false
	}
	message, ok = text("@message", "msg", "message")
	word, _ := text("@level", "level")
	switch strings.ToLower(word) {
	case "trace", "debug":
		level = slog.LevelDebug
	case "warn", "warning":
		level = slog.LevelWarn
	case "error", "fatal":
		level = slog.LevelError
	}
	for _, k := range []string{"@message", "@level", "@timestamp", "@module", "@caller", "msg", "message", "level", "time", "source"} {
		delete(raw, k)
	}
	for i, k := range slices.Sorted(maps.Keys(raw)) {
		if i == maxFields {
			break
		}
		switch v := raw[k].(type) {
		case float64, bool:
			fields = append(fields, slog.Any(clean(k, 64), v))
		default:
			fields = append(fields, slog.String(clean(k, 64), clean(fmt.Sprint(v), maxText)))
		}
	}
	return level, clean(message, maxLine), fields, ok
}

// Accept is part of hclog.SinkAdapter. What go-plugin itself logs is for those who look for
// a fault in it: what there is to tell, our own lines and errors do.
func (l *logs) Accept(_ string, _ hclog.Level, msg string, args ...any) {
	l.log.Debug("go-plugin: "+clean(msg, maxText), args...)
}

// hclog returns a logger for go-plugin.
func (l *logs) hclog() hclog.Logger {
	out := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Debug})
	out.RegisterSink(l)
	return out
}
