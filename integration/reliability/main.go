// Command reliability makes integration/RELIABILITY.md of what the tests of faults have
// recorded (package record).
//
//	reliability update FILE...   puts records into record/results.jsonl, and writes the page
//	reliability check FILE...    fails unless the records show every row of the table, by the
//	                             tests that the page names
//
// Records of make test are of all its tests, and take the place of all former ones; those of
// make soak take the place of the same test's.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/busylamp/busylamp/integration/record"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "reliability:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 || args[0] != "update" && args[0] != "check" {
		return errors.New("usage: reliability update|check FILE...")
	}
	var now []record.Entry
	for _, name := range args[1:] {
		entries, err := read(name)
		if err != nil {
			return err
		}
		now = append(now, entries...)
	}
	known, err := read(resultsFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if args[0] == "check" {
		return check(known, now)
	}
	return update(merge(known, now))
}

// The files, from the module's folder, where make runs this.
const (
	resultsFile = "integration/record/results.jsonl"
	pageFile    = "integration/RELIABILITY.md"
)

func read(name string) (entries []record.Entry, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		var e record.Entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		entries = append(entries, e)
	}
	return entries, lines.Err()
}

// key tells entries apart: the later one of a test takes the place of the earlier.
func key(e record.Entry) string {
	return fmt.Sprintf("%03d %s %s %v", place(e.Row), e.Package, e.Test, e.Soak)
}

func place(row string) int {
	return slices.IndexFunc(record.Rows, func(r record.Row) bool { return r.ID == row })
}

// merge returns the entries in the page's order.
func merge(known, now []record.Entry) []record.Entry {
	whole := slices.ContainsFunc(now, func(e record.Entry) bool { return !e.Soak })
	latest := map[string]record.Entry{}
	for _, e := range known {
		if place(e.Row) >= 0 && (e.Soak || !whole) {
			latest[key(e)] = e
		}
	}
	for _, e := range now {
		if place(e.Row) >= 0 {
			latest[key(e)] = e
		}
	}
	out := make([]record.Entry, 0, len(latest))
	for _, e := range latest {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b record.Entry) int { return strings.Compare(key(a), key(b)) })
	return out
}

// check compares a run of `make test` with the page: every row must be shown, and the tests must
// be those that the page names. (Which rows one test shows can depend on the machine: a busy one
// does not fill the proxy's queue.)
func check(known, now []record.Entry) error {
	var missing []string
	ran, rows := map[string]bool{}, map[string]bool{}
	for _, e := range now {
		ran[name(e)], rows[e.Row] = true, true
	}
	for _, r := range record.Rows {
		if !rows[r.ID] {
			missing = append(missing, fmt.Sprintf("no test has recorded the row %q (%s)", r.ID, r.Fault))
		}
	}
	paged := map[string]bool{}
	for _, e := range known {
		paged[name(e)] = true
		if !e.Soak && !ran[name(e)] {
			missing = append(missing, fmt.Sprintf("%s names %s, and it has recorded nothing: run make reliability if it is gone", pageFile, name(e)))
		}
	}
	for _, e := range now {
		if !paged[name(e)] {
			missing = append(missing, fmt.Sprintf("%s lacks %s for the row %q: run make reliability", pageFile, name(e), e.Row))
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return errors.New(strings.Join(slices.Compact(missing), "\n"))
	}
	fmt.Printf("all %d rows of the table of faults were shown, by %d records of %d tests\n", len(record.Rows), len(now), len(ran))
	return nil
}

// name is the test that an entry is of, without its subtest.
func name(e record.Entry) string {
	test, _, _ := strings.Cut(e.Test, "/")
	return e.Package + " " + test
}

// update writes the results and the page.
func update(entries []record.Entry) error {
	var lines strings.Builder
	enc := json.NewEncoder(&lines)
	enc.SetEscapeHTML(false)
	for _, e := range entries {
		if err := enc.Encode(e); err != nil {
			return err
		}
	}
	return errors.Join(write(resultsFile, lines.String()), write(pageFile, page(entries)))
}

func write(name, text string) error {
	return os.WriteFile(filepath.FromSlash(name), []byte(text), 0o644)
}
