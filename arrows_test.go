package busylamp_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/busylamp/busylamp"

// leaves are adapters that others may import.
var leaves = map[string]bool{module + "/adapters/pidf": true, module + "/adapters/pidf/xmltree": true, module + "/adapters/dialoginfo": true,
	module + "/adapters/rlmi": true, module + "/adapters/sipnet": true}

// TestArrows holds the arrows of import: cmd -> adapters -> core; the core imports the
// standard library only, the SDK nothing of ours, and no adapter another but the leaves.
func TestArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	type pkg struct {
		ImportPath string
		Imports    []string
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, imported := range p.Imports {
			if !allowed(p.ImportPath, imported) {
				t.Errorf("%s must not import %s", p.ImportPath, imported)
			}
		}
	}
	if seen < 4 {
		t.Fatalf("saw only %d packages", seen)
	}
}

func allowed(from, to string) bool {
	ours := to == module || strings.HasPrefix(to, module+"/")
	adapter := func(s string) bool { return strings.HasPrefix(s, module+"/adapters/") }
	switch {
	case from == module:
		return !strings.Contains(strings.SplitN(to, "/", 2)[0], ".")
	case leaves[from]:
		return !ours || leaves[to]
	case from == module+"/adapters/pluginhost":
		return !ours || to == module || leaves[to] || strings.HasPrefix(to, module+"/plugin")
	case adapter(from):
		return !ours || to == module || leaves[to]
	case strings.HasPrefix(from, module+"/plugin"), strings.HasPrefix(from, module+"/cmd/busylamp-source-"):
		return !ours || strings.HasPrefix(to, module+"/plugin") || leaves[to]
	}
	return true
}

// TestAllowed shows that the rule can fail.
func TestAllowed(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{module, "time", true},
		{module, "github.com/emiago/sipgo", false},
		{module, module + "/adapters/pidf", false},
		{module + "/adapters/kamailio", module, true},
		{module + "/adapters/kamailio", module + "/adapters/sippublish", false},
		{module + "/adapters/sippublish", module + "/adapters/pidf", true},
		{module + "/adapters/pidf", module, false},
		{module + "/plugin", module, false},
		{module + "/cmd/busylamp", module + "/adapters/kamailio", true},
	} {
		if got := allowed(c.from, c.to); got != c.want {
			t.Errorf("allowed(%s, %s) = %v, want %v", c.from, c.to, got, c.want)
		}
	}
}
