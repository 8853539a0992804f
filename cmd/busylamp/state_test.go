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

var oneServer = map[string]string{"s": "sip:127.0.0.1"}

func openTest(t *testing.T, dir string) *stateDir {
	t.Helper()
	d, err := openState(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

func TestStateRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "state")
	d := openTest(t, dir)
	if records := d.take(oneServer, quietLog()); len(records) != 0 {
		t.Fatal(records)
	}
	want := busylamp.Record{Publisher: "s", Presentity: "sip:a@example.com", Tag: "t1", State: busylamp.OnThePhone,
		Expires: 500 * time.Second, Refresh: 300 * time.Second, Unsure: true, Clear: true}
	other := busylamp.Record{Publisher: "gone", Presentity: "sip:a@example.com", Tag: "t1", State: busylamp.OnThePhone}
	if err := d.write([]busylamp.Record{want, other}, oneServer); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, stateName)); err != nil || !strings.Contains(string(text), `"on-the-phone"`) {
		t.Errorf("states are not written by name: %s, %v", text, err)
	}
	records := d.take(oneServer, quietLog())
	if len(records) != 1 {
		t.Fatal(records)
	}
	got := records[0]
	if d := want.Expires - got.Expires; d < 0 || d > time.Minute {
		t.Errorf("expires in %v", got.Expires)
	}
	got.Expires, got.Refresh = want.Expires, want.Refresh
	if got != want {
		t.Errorf("got %+v", got)
	}
	if records = d.take(oneServer, quietLog()); len(records) != 0 {
		t.Errorf("taken twice: %v", records)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A second sidecar on the same directory is refused, and let in when the first has ended.
func TestStateIsOnes(t *testing.T) {
	dir := t.TempDir()
	first := openTest(t, dir)
	if _, err := openState(dir); err == nil || !strings.Contains(err.Error(), "another busylamp") {
		t.Errorf("got %v", err)
	}
	first.close()
	openTest(t, dir)
}

// What cannot be read is set aside, and the sidecar starts with nothing.
func TestStateUnreadable(t *testing.T) {
	for name, text := range map[string]string{
		"empty":        "",
		"garbage":      "\x00\x01",
		"cut":          `{"version":1,"publications":[{"publisher":"s"`,
		"newer":        `{"version":2}`,
		"presentity":   `{"version":1,"publications":[{"presentity":"nobody"}]}`,
		"state":        `{"version":1,"publications":[{"presentity":"sip:a@b","state":"dancing"}]}`,
		"not our json": `[1,2,3]`,
	} {
		d := openTest(t, t.TempDir())
		path := filepath.Join(d.path, stateName)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if records := d.take(oneServer, quietLog()); len(records) != 0 {
			t.Errorf("%s: %v", name, records)
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
	_, err := openState(filepath.Join(file, "state"))
	if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "choose a directory") {
		t.Errorf("got %v", err)
	}
}

// FuzzReadState: whatever is in the file, it is an error or records, and no panic.
func FuzzReadState(f *testing.F) {
	f.Add([]byte(`{"version":1,"publications":[{"publisher":"s","server":"sip:127.0.0.1","presentity":"sip:a@b","state":"busy"}]}`))
	path := filepath.Join(f.TempDir(), stateName)
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		records, _, err := readState(path, oneServer, time.Now())
		if err != nil && len(records) > 0 {
			t.Errorf("%v and %v", records, err)
		}
	})
}
