package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

func quietLog() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func openTest(t *testing.T, dir string) *state {
	t.Helper()
	s, err := openState(dir, quietLog())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return s
}

func publisherAt(server string) config {
	p := defaultPublisher()
	p.Name, p.Server = "s", server
	return config{Publishers: []publisherConfig{p}}
}

var kept = busylamp.Record{Publisher: "s", Presentity: "sip:a@example.com", Tag: "t1", State: busylamp.OnThePhone,
	Expires: 500 * time.Second, Refresh: 300 * time.Second, Unsure: true, Clear: true}

// TestStateRoundTrip: what one life keeps the next one takes, and one with another server
// does not.
func TestStateRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "state")
	first := openTest(t, dir)
	here, elsewhere := publisherAt("sip:127.0.0.1").ids(), publisherAt("sip:127.0.0.2").ids()
	if records := first.take(here, quietLog()); len(records) != 0 {
		t.Fatal(records)
	}
	first.keep(here, []busylamp.StoreOp{{Record: kept}, {Record: busylamp.Record{Publisher: "nobody"}}})
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	second := openTest(t, dir)
	records := second.take(here, quietLog())
	if len(records) != 1 {
		t.Fatal(records)
	}
	got := records[0]
	if d := kept.Expires - got.Expires; d < 0 || d > time.Minute {
		t.Errorf("expires in %v", got.Expires)
	}
	got.Expires, got.Refresh = kept.Expires, kept.Refresh
	if got != kept {
		t.Errorf("got %+v", got)
	}
	if err := second.close(); err != nil {
		t.Fatal(err)
	}
	third := openTest(t, dir)
	if records := third.take(elsewhere, quietLog()); len(records) != 0 {
		t.Errorf("taken by another server: %v", records)
	}
	if err := third.close(); err != nil {
		t.Fatal(err)
	}
	if records := openTest(t, dir).take(here, quietLog()); len(records) != 0 {
		t.Errorf("what lapses is kept: %v", records)
	}
}

// A second sidecar on the same directory is refused, and let in when the first has ended.
func TestStateIsOnes(t *testing.T) {
	dir := t.TempDir()
	first := openTest(t, dir)
	if _, err := openState(dir, quietLog()); err == nil || !strings.Contains(err.Error(), "another busylamp") {
		t.Errorf("got %v", err)
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	openTest(t, dir)
}

// TestStateFenced: a directory that another sidecar has taken is noticed.
func TestStateFenced(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "publications", "OWNER"), []byte("somebody else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.keep(publisherAt("sip:127.0.0.1").ids(), []busylamp.StoreOp{{Record: kept}})
	select {
	case <-s.fenced:
	case <-time.After(10 * time.Second):
		t.Fatal("not noticed")
	}
	if err := s.close(); !errors.Is(err, busylamp.ErrFenced) {
		t.Errorf("closed with %v", err)
	}
}

func TestStateDirectoryUnusable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := openState(filepath.Join(file, "state"), quietLog())
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
}

// TestPublisherIDsFit: the longest name is one that the store takes.
func TestPublisherIDsFit(t *testing.T) {
	c := publisherAt("sip:127.0.0.1")
	c.Publishers[0].Name = strings.Repeat("n", 64)
	s := openTest(t, t.TempDir())
	r := kept
	r.Publisher = c.Publishers[0].Name
	s.keep(c.ids(), []busylamp.StoreOp{{Record: r}})
	if err := s.close(); err != nil {
		t.Error(fmt.Errorf("closing: %w", err))
	}
}
