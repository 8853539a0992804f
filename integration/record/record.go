// Package record keeps what the tests of faults have seen: which fault, how often it was
// injected, and what was observed. The page RELIABILITY.md is made of it.
package record

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// Entry is what one test saw of one row of the table.
type Entry struct {
	Row      string `json:"row"`
	Test     string `json:"test"`
	Package  string `json:"package"` // its folder's path within the module
	Injected int    `json:"injected"`
	Observed string `json:"observed"`
	Soak     bool   `json:"soak,omitempty"`
	Day      string `json:"day"` // of the run
}

// File names the file, from the environment, that entries are added to. Unset, nothing is
// kept.
const File = "BUSYLAMP_RECORD"

// Soak tells whether the tests run for as long as `make soak` lets them.
func Soak() bool { return os.Getenv("BUSYLAMP_SOAK") == "1" }

// Fault logs what a test saw of a row (see [Rows]), and keeps it if the test passes so far.
// (make takes none of it unless all tests pass.)
// injected is how often the fault came: a test that injected nothing has shown nothing, and
// fails. observed is for people: short, with figures and their units.
func Fault(t testing.TB, row string, injected int, observed string, args ...any) {
	t.Helper()
	e := Entry{Row: row, Test: t.Name(), Package: here(t), Injected: injected, Observed: fmt.Sprintf(observed, args...), Soak: Soak(), Day: time.Now().Format(time.DateOnly)}
	t.Logf("%s, %d times: %s", row, injected, e.Observed)
	if _, ok := find(row); !ok {
		t.Errorf("the table of faults has no row %q", row)
	}
	if injected <= 0 {
		t.Errorf("%s: the fault was never injected, so this test shows nothing", row)
	}
	t.Cleanup(func() {
		name := os.Getenv(File)
		if name == "" || t.Failed() {
			return
		}
		if err := e.write(name); err != nil {
			t.Errorf("%s: %v", File, err)
		}
	})
}

// here returns the folder of the package under test: go test runs it there.
func here(t testing.TB) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	root, err := moduleRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	return "." + strings.TrimPrefix(dir, root)
}

// write adds the entry in one write, since packages are tested side by side.
func (e *Entry) write(name string) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(append(line, '\n'))
	return err
}
