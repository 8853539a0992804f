package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// wallTime is where the program makes wall time of a time, by file and method, and why that
// may be: everything else must compare times by their monotonic reading, which no setting
// of the clock moves.
var wallTime = map[string]string{
	"adapters/store/clock.go UnixMilli":      "beside the time since boot; see clock.until",
	"adapters/store/aside.go UTC":            "a file's name",
	"adapters/sipnet/cert.go UTC":            "logs a certificate's end",
	"cmd/busylamp/metrics.go Unix":           "shows a certificate's end",
	"cmd/busylamp/admin.go Round":            "shows a time",
	"cmd/busylamp/admin_publishers.go Round": "shows a time",
	"cmd/busylamp/admin_sources.go Round":    "shows a time",
	"adapters/pidf/read_rpid.go time.Parse":  "others' documents go by the wall clock",
	"adapters/pidf/read_rpid.go UTC":         "others' documents go by the wall clock",
	"adapters/pluginhost/unit.go Round":      "logs a duration",
	"adapters/pluginhost/text.go In":         "unicode.In",
	"plugin/plugintest/judge.go Round":       "shows a time",
	"adapters/store/keeper.go Round":         "logs a duration",
	"adapters/sipnet/hops.go Round":          "logs a duration",
	"pace.go Truncate":                       "of a duration",
	"adapters/kamailio/truth.go time.Unix":   "two times of the proxy's own clock",
}

// strips are the methods that drop a time's monotonic reading, and makes the functions of
// package time whose times have none.
var (
	strips = map[string]bool{"Round": true, "Truncate": true, "UTC": true, "Local": true, "In": true, "AddDate": true,
		"Unix": true, "UnixMilli": true, "UnixMicro": true, "UnixNano": true, "GobEncode": true}
	makes = map[string]bool{"Unix": true, "UnixMilli": true, "UnixMicro": true, "Date": true, "Parse": true, "ParseInLocation": true}
)

// TestNoWallTime: no code of the program goes by the wall clock, but for a short list.
func TestNoWallTime(t *testing.T) {
	const root = "../.."
	found, files := map[string]bool{}, 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == "integration" || name == "kamailio-cfg" || name == "bin" || strings.HasSuffix(name, "siptest") || strings.HasPrefix(name, ".") && name != "."):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		files++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, use := range wallTimes(t, name, string(text)) {
			if found[use] = true; wallTime[use] == "" {
				t.Errorf("%s: makes wall time of a time; let it keep its monotonic reading, or say here why not", use)
			}
		}
		return nil
	})
	if err != nil || files < 50 {
		t.Fatalf("read %d files (%v)", files, err)
	}
	for use := range wallTime {
		if !found[use] {
			t.Errorf("%s: listed, and there is no such thing", use)
		}
	}
}

// wallTimes returns the uses in a file.
func wallTimes(t *testing.T, name, text string) (uses []string) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if id, ok := sel.X.(*ast.Ident); ok && id.Name == "time" {
			if makes[sel.Sel.Name] {
				uses = append(uses, fmt.Sprintf("%s time.%s", name, sel.Sel.Name))
			}
		} else if strips[sel.Sel.Name] {
			uses = append(uses, name+" "+sel.Sel.Name)
		}
		return true
	})
	return uses
}

// TestWallTimeIsSeen: the test above sees what it looks for.
func TestWallTimeIsSeen(t *testing.T) {
	got := wallTimes(t, "f.go", "package f\nvar _ = a().Round(0)\nvar _ = time.Unix(1, 2).After(b.UTC())\nvar _ = time.Now().Add(c)\n")
	if want := "[f.go Round f.go time.Unix f.go UTC]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}
