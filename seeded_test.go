package busylamp_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
)

// seededBug is a bug that is put into the core on purpose: in file, old becomes new.
type seededBug struct {
	name, file, old, new string
}

// TestSeededBugs: an oracle that never fails proves nothing. Each of these bugs, most of
// them somebody's own (see TestField), must make the random schedules fail by a promise that
// is broken, and not by a panic; and without a bug they must pass. It takes 50 s on 2 cores.
func TestSeededBugs(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute; run it without -short")
	}
	began := time.Now()
	var caught atomic.Int32
	t.Run("bugs", func(t *testing.T) {
		for _, bug := range seededBugs {
			t.Run(bug.name, func(t *testing.T) {
				t.Parallel()
				if bug.run(t) {
					caught.Add(1)
				}
			})
		}
		t.Run("none", func(t *testing.T) {
			t.Parallel()
			if out, err := schedules(t, map[string]string{}); err != nil {
				t.Errorf("without a bug: %v\n%s", err, out)
			}
		})
	})
	record.Fault(t, "seeded-bugs", len(seededBugs), "%d of %d caught within %d schedules of %d steps each, in %v",
		caught.Load(), len(seededBugs), seededChecks, seededSteps, time.Since(began).Round(time.Second))
}

// A bug may hide in so many schedules of so many steps; as a rule a few dozen are enough.
const seededChecks, seededSteps = 1500, 100

// schedules runs the random schedules on a core in which some files are replaced by others.
func schedules(t *testing.T, replace map[string]string) (out string, err error) {
	t.Helper()
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	// A failure is not shrunk, and the seed is fixed: what is caught once is caught again.
	cmd := exec.Command("go", "test", "-vet=off", "-count=1", "-failfast", "-timeout=2m", "-overlay="+file,
		"-run=^(TestWorld|TestAnyOrderSameResult|TestSources)$", fmt.Sprint("-rapid.checks=", seededChecks),
		fmt.Sprint("-rapid.steps=", seededSteps), "-rapid.seed=1",
		"-rapid.shrinktime=0s", "-rapid.nofailfile", ".")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, record.File+"=") || strings.HasPrefix(kv, "BUSYLAMP_SOAK=")
	})
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// broken finds which promise a schedule saw broken, in what rapid says.
var broken = regexp.MustCompile(`\[rapid\] failed after (\d+) tests?: (.*)`)

// run reports whether the bug was caught.
func (b seededBug) run(t *testing.T) bool {
	path, err := filepath.Abs(b.file)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), b.old); n != 1 {
		t.Fatalf("%s has the text of this bug %d times, want once: the code has changed, so let the bug follow it:\n%s", b.file, n, b.old)
	}
	other := filepath.Join(t.TempDir(), b.file)
	if err := os.WriteFile(other, []byte(strings.Replace(string(text), b.old, b.new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := schedules(t, map[string]string{path: other})
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("go test: %v", err)
	}
	found := broken.FindStringSubmatch(out)
	if err == nil || found == nil {
		t.Errorf("not caught in %d schedules (%v):\n%s", seededChecks, err, out)
		return false
	}
	t.Logf("caught by schedule %s: %s", found[1], found[2])
	return true
}
