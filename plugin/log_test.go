package plugin

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"
)

// TestLines shows that the lines are hclog's, and that no attribute of an author's can pass
// for what a line says of itself.
func TestLines(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(newLines(&out, "debug")).With("level", "mine", "time", 3)
	log.Log(t.Context(), slog.LevelInfo+1, "hello", "msg", "x", "@level", 5, slog.Group("g", "level", "deep"))
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	if line["@message"] != "hello" || line["@level"] != "info" || line["_msg"] != "x" || line["_time"] != 3.0 {
		t.Errorf("%v", line)
	}
	if g, _ := line["g"].(map[string]any); g["level"] != "deep" {
		t.Errorf("group: %v", line["g"])
	}
	if at, _ := line["@timestamp"].(string); at == "" {
		t.Error("no timestamp")
	} else if _, err := time.Parse(stamp, at); err != nil {
		t.Error(err)
	}
}

// TestLogLevel shows that the host's level counts, and info without one.
func TestLogLevel(t *testing.T) {
	for level, want := range map[string]int{"debug": 4, "": 3, "rubbish": 3, "info": 3, "warn": 2, "error": 1} {
		var out bytes.Buffer
		log := slog.New(newLines(&out, level))
		log.Debug("")
		log.Info("")
		log.Warn("")
		log.Error("")
		if got := bytes.Count(out.Bytes(), []byte("\n")); got != want {
			t.Errorf("at %q %d lines, want %d", level, got, want)
		}
	}
}

// TestOrphaned shows that another parent is seen.
func TestOrphaned(t *testing.T) {
	asked := 0
	<-orphaned(7, time.Millisecond, func() int {
		if asked++; asked > 3 {
			return 1
		}
		return 7
	})
	if asked != 4 {
		t.Errorf("asked %d times", asked)
	}
}
