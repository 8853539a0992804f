// Package python_test holds the source in Python to the contract.
package python_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/busylamp/busylamp/plugin"
	"github.com/busylamp/busylamp/plugin/plugintest"
)

// interpreter is Debian's, which has Debian's python3-grpcio.
const interpreter = "/usr/bin/python3"

const alice = "sip:alice@example.com"

// TestContract runs the suite against the one file that is made of the directory source: it is
// what an administrator installs and pins.
func TestContract(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "busylamp-source-template-python")
	if out, err := exec.Command(interpreter, "-m", "zipapp", "-p", interpreter, "-o", program, "source").CombinedOutput(); err != nil {
		t.Fatalf("zipapp: %v: %s", err, out)
	}
	file := filepath.Join(dir, "people")
	write := func(text string) {
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Error(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Error(err)
		}
	}
	write(alice + " do-not-disturb writing\n")
	plugintest.Run(t, plugintest.Options{
		Command: []string{program},
		NoMTLS:  true,
		Config:  map[string]any{"file": file, "interval": "50ms"},
		BadConfigs: []plugintest.BadConfig{
			{Config: map[string]any{"file": file, "interval": "1ms"}, Key: "interval"},
			{Config: map[string]any{"file": file, "interval": 5}, Key: "interval"},
			{Config: map[string]any{"fiel": file, "file": file}, Key: "fiel"},
		},
		Watch: []plugintest.Watched{
			{Presentity: alice, State: plugin.Active, Availability: plugin.DoNotDisturb},
			{Presentity: "tel:+31612345678", State: plugin.Active},
		},
		Trigger: func() { write(alice + " busy\n") },
	})
}

// TestFromDirectory starts the source from where it is written, from another directory.
func TestFromDirectory(t *testing.T) {
	dir, err := filepath.Abs("source")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(interpreter, dir)
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err == nil || string(out) == "" || cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("it must say that busylamp starts it: %v %s", err, out)
	}
	if _, err := os.Stat("source/__pycache__"); err == nil {
		t.Error("it has written __pycache__ beside itself")
	}
}
