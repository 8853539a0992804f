package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// blockedWriter lets nobody through until it is opened.
type blockedWriter struct {
	open chan struct{}
	bytes.Buffer
}

func (w *blockedWriter) Write(b []byte) (int, error) {
	<-w.open
	return w.Buffer.Write(b)
}

// A reader that does not read holds nothing up: lines are dropped and counted.
func TestLogNeverWaits(t *testing.T) {
	w := &blockedWriter{open: make(chan struct{})}
	l := newLogWriter(w)
	log := newLogger(logConfig{Level: "info", Format: "json"}, l)
	for i := range maxLogLines + 100 {
		log.Info("line", "n", i)
	}
	close(w.open)
	l.close()
	out := w.String()
	if n := strings.Count(out, `"msg":"line"`); n < maxLogLines || n > maxLogLines+1 {
		t.Errorf("%d lines were written", n)
	}
	if !strings.Contains(out, "log lines were dropped") {
		t.Error("nothing says that lines were dropped")
	}
}

func TestLogLevelAndFormat(t *testing.T) {
	var w bytes.Buffer
	log := newLogger(logConfig{Level: "warn", Format: "text"}, &w)
	log.Info("quiet")
	log.Warn("loud", "key", `a "quoted" value`)
	if out := w.String(); strings.Contains(out, "quiet") || !strings.Contains(out, `key="a \"quoted\" value"`) {
		t.Errorf("wrote %q", out)
	}
	if log.Enabled(t.Context(), slog.LevelInfo) {
		t.Error("info is enabled")
	}
}
