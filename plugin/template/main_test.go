package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/busylamp/busylamp/plugin"
	"github.com/busylamp/busylamp/plugin/plugintest"
)

// The test's own binary is the source, too: nothing has to be built for the suite.
func TestMain(m *testing.M) { plugintest.Main(m, main) }

const alice, bob = "sip:alice@example.com", "tel:+31612345678"

// write replaces the file at once, as an editor does.
func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// TestContract holds the program to the contract.
func TestContract(t *testing.T) {
	file := filepath.Join(t.TempDir(), "people")
	write(t, file, alice+" do-not-disturb writing\n")
	good := map[string]any{"file": file, "interval": "20ms"}
	plugintest.Run(t, plugintest.Options{
		Config: good,
		BadConfigs: []plugintest.BadConfig{
			{Config: map[string]any{"file": file, "interval": "1ms"}, Key: "interval"},
			{Config: map[string]any{"file": file, "interval": 5}, Key: "interval"},
		},
		Watch: []plugintest.Watched{
			{Presentity: alice, State: plugin.Active, Availability: plugin.DoNotDisturb},
			{Presentity: bob, State: plugin.Active},
		},
		Trigger: func() { write(t, file, alice+" busy\n") },
	})
}

// TestFile follows a file from line to line: the states, the note, the withdrawal when a line
// is gone, and a file that is gone.
func TestFile(t *testing.T) {
	defer goleak.VerifyNone(t)
	file := filepath.Join(t.TempDir(), "people")
	write(t, file, alice+"  do-not-disturb  writing the report\n")
	h := plugintest.Start(t, &source{}, map[string]any{"file": file, "interval": "10ms"})
	defer func() { _ = h.Stop() }()
	if c := h.NextConnector(); c.State != plugin.Up {
		t.Errorf("connector: %+v", c)
	}
	h.Watch(alice)
	if s := h.NextSubscription(); s.State != plugin.Active || s.Presentity != alice {
		t.Errorf("subscription: %+v", s)
	}
	for _, step := range []struct {
		text, note string
		want       plugin.Availability
	}{
		{"", "writing the report", plugin.DoNotDisturb},
		{alice + " busy\n", "", plugin.Busy},
		{"\n", "", plugin.Unknown},
	} {
		if step.text != "" {
			write(t, file, step.text)
		}
		if c := h.NextClaim(); c.Availability != step.want || c.Note != step.note || c.Presentity != alice {
			t.Errorf("after %q: %+v", step.text, c)
		}
	}
	write(t, file, "rubbish\n")
	if c := h.NextConnector(); c.State != plugin.Up || c.Reason == "" {
		t.Errorf("a wrong line: %+v", c)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if c := h.NextConnector(); c.State != plugin.ConnectionError {
		t.Errorf("no file: %+v", c)
	}
	write(t, file, alice+" away\n")
	if c := h.NextClaim(); c.Availability != plugin.Away {
		t.Errorf("the file is back: %+v", c)
	}
	if c := h.NextConnector(); c.State != plugin.Up {
		t.Errorf("the file is back: %+v", c)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if c := h.NextConnector(); c.State != plugin.ConnectionError {
		t.Errorf("no file again: %+v", c)
	}
	h.Quiet(100 * time.Millisecond) // what was said is not taken back: the host lets it lapse
	if err := h.Stop(); err != nil {
		t.Errorf("Stop: %v", err)
	}
}
