// Package python_test holds the source in Python to the contract.
package python_test

import (
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/busylamp/busylamp/plugin"
	"github.com/busylamp/busylamp/plugin/plugintest"
	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// interpreter is Debian's, which has Debian's python3-grpcio.
const interpreter = "/usr/bin/python3"

const alice = "sip:alice@example.com"

// pack makes the one file of the directory source that an administrator installs and pins.
func pack(t *testing.T, dir string) string {
	t.Helper()
	program := filepath.Join(dir, "busylamp-source-template-python")
	if out, err := exec.Command(interpreter, "-m", "zipapp", "-p", interpreter, "-o", program, "source").CombinedOutput(); err != nil {
		t.Fatalf("zipapp: %v: %s", err, out)
	}
	return program
}

// TestContract runs the suite against it.
func TestContract(t *testing.T) {
	dir := t.TempDir()
	program := pack(t, dir)
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

// TestAnywhere starts the source from another directory: as it is written, as one file, and
// by a link to an open descriptor of that file, as the host does.
func TestAnywhere(t *testing.T) {
	written, err := filepath.Abs("source")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program := pack(t, dir)
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/proc/self/fd/3", link); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for _, command := range [][]string{{interpreter, written}, {program}, {link}} {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Dir, cmd.ExtraFiles = "/", []*os.File{open}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "This is a source for busylamp") {
			t.Errorf("%q must say that busylamp starts it: %v %s", command, err, out)
		}
	}
	if _, err := os.Stat("source/__pycache__"); err == nil {
		t.Error("it has written __pycache__ beside itself")
	}
}

// TestGenerated shows that source_pb2.py is of the contract as it is: make proto was run.
func TestGenerated(t *testing.T) {
	const script = `import sys; sys.path.insert(0, "source"); sys.dont_write_bytecode = True
import source_pb2, binascii; print(binascii.hexlify(source_pb2.DESCRIPTOR.serialized_pb).decode())`
	out, err := exec.Command(interpreter, "-c", script).Output()
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	var python descriptorpb.FileDescriptorProto
	if err := proto.Unmarshal(b, &python); err != nil {
		t.Fatal(err)
	}
	ours := protodesc.ToFileDescriptorProto(pluginv1.File_source_proto)
	for _, m := range ours.MessageType { // Python's has no names for JSON
		for _, f := range m.Field {
			f.JsonName = nil
		}
		for _, within := range m.NestedType {
			for _, f := range within.Field {
				f.JsonName = nil
			}
		}
	}
	if !proto.Equal(&python, ours) {
		t.Error("source_pb2.py and source.pb.go differ: run make proto")
	}
}
