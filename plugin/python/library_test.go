package python_test

import (
	"os/exec"
	"testing"
)

// TestLibrary runs what library_test.py tests of busylamp_source.py.
func TestLibrary(t *testing.T) {
	if out, err := exec.Command(interpreter, "library_test.py").CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}
