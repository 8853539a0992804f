package main

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

func quietLog() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func TestStateRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "state")
	if records, err := openState(dir, quietLog()); err != nil || len(records) != 0 {
		t.Fatalf("%v, %v", records, err)
	}
	want := busylamp.Record{Publisher: "s", Presentity: "sip:a@example.com", Tag: "t1", State: busylamp.OnThePhone,
		Expires: 500 * time.Second, Refresh: 300 * time.Second, Unsure: true}
	if err := writeState(dir, []busylamp.Record{want}); err != nil {
		t.Fatal(err)
	}
	records, err := openState(dir, quietLog())
	if err != nil || len(records) != 1 {
		t.Fatalf("%v, %v", records, err)
	}
	got := records[0]
	if d := want.Expires - got.Expires; d < 0 || d > time.Minute {
		t.Errorf("expires in %v", got.Expires)
	}
	got.Expires, got.Refresh = want.Expires, want.Refresh
	if got != want {
		t.Errorf("got %+v", got)
	}
	if records, err = openState(dir, quietLog()); err != nil || len(records) != 0 {
		t.Errorf("taken twice: %v, %v", records, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// What cannot be read is set aside, and the sidecar starts with nothing.
func TestStateUnreadable(t *testing.T) {
	for name, text := range map[string]string{
		"empty":        "",
		"garbage":      "\x00\x01",
		"cut":          `{"version":1,"publications":[{"publisher":"s"`,
		"newer":        `{"version":2}`,
		"presentity":   `{"version":1,"publications":[{"presentity":"nobody"}]}`,
		"not our json": `[1,2,3]`,
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, stateName)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		records, err := openState(dir, quietLog())
		if err != nil || len(records) != 0 {
			t.Errorf("%s: %v, %v", name, records, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: still there", name)
		}
		if kept, err := os.ReadFile(path + ".unreadable"); err != nil || string(kept) != text {
			t.Errorf("%s: not set aside: %v", name, err)
		}
	}
}

func TestStateDirectoryUnusable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := openState(filepath.Join(file, "state"), quietLog())
	if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "choose a directory") {
		t.Errorf("got %v", err)
	}
}
