package plugin

import (
	"context"
	"io"
	"log/slog"
	"strings"
)

// LogLevelKey is the environment variable by which the host says from what level on it wants
// to hear: debug, info, warn or error. Without it, info.
const LogLevelKey = "BUSYLAMP_LOG_LEVEL"

// stamp is what hclog, at the other end of the pipe, reads @timestamp by.
const stamp = "2006-01-02T15:04:05.000000Z07:00"

// lines writes slog's records as the JSON lines that the host reads from a source's standard
// error: @level, @message, @timestamp and the attributes.
type lines struct{ slog.Handler }

func newLines(w io.Writer, level string) lines {
	var from slog.Level
	if from.UnmarshalText([]byte(level)) != nil {
		from = slog.LevelInfo
	}
	return lines{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: from, ReplaceAttr: rename})}
}

// rename gives slog's own keys the host's names. An attribute of the author's has never a
// name of slog's here: see own.
func rename(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		return slog.String("@timestamp", a.Value.Time().Format(stamp))
	case slog.LevelKey:
		return slog.String("@level", levelName(a.Value.Any().(slog.Level)))
	case slog.MessageKey:
		return slog.String("@message", a.Value.String())
	}
	return a
}

// levelName rounds a level down to one that has a name: hclog knows no INFO+1.
func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warn"
	}
	return "error"
}

// Handle is part of slog.Handler.
func (l lines) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, r.Message, 0)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(ours(a))
		return true
	})
	return l.Handler.Handle(ctx, out)
}

// WithAttrs is part of slog.Handler.
func (l lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	renamed := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		renamed[i] = ours(a)
	}
	return lines{l.Handler.WithAttrs(renamed)}
}

// WithGroup is part of slog.Handler.
func (l lines) WithGroup(name string) slog.Handler { return lines{l.Handler.WithGroup(name)} }

// ours keeps an author's attribute apart from what a line says of itself.
func ours(a slog.Attr) slog.Attr {
	switch a.Key {
	case slog.TimeKey, slog.LevelKey, slog.MessageKey, "@timestamp", "@level", "@message":
		a.Key = "_" + strings.TrimPrefix(a.Key, "@")
	}
	return a
}
