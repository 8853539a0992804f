package main

import (
	"os"
	"strings"
	"testing"

	"github.com/busylamp/busylamp/integration/record"
)

// TestPage: the page is what the results make, so that nobody edits it by hand.
func TestPage(t *testing.T) {
	t.Chdir("../..")
	entries, err := read(resultsFile)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(pageFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != page(entries) {
		t.Errorf("%s is not what %s makes: run make reliability", pageFile, resultsFile)
	}
	for _, r := range record.Rows {
		if len(of(r, entries)) == 0 {
			t.Errorf("%s has nothing on %q (%s)", resultsFile, r.ID, r.Fault)
		}
	}
}

func TestCheck(t *testing.T) {
	var all []record.Entry
	for _, r := range record.Rows {
		all = append(all, record.Entry{Row: r.ID, Test: "Test-" + r.ID + "/sub", Package: "./x", Injected: 1})
	}
	soak := record.Entry{Row: all[0].Row, Test: "TestLong", Package: "./x", Injected: 1, Soak: true}
	if err := check(append(all, soak), all); err != nil {
		t.Error(err)
	}
	if err := check(all, all[1:]); err == nil || !strings.Contains(err.Error(), all[0].Row) {
		t.Errorf("a row that no test has recorded: %v", err)
	}
	other := append(all[1:len(all):len(all)], record.Entry{Row: all[0].Row, Test: "TestOther", Package: "./x", Injected: 1})
	if err := check(all, other); err == nil || !strings.Contains(err.Error(), "TestOther") || !strings.Contains(err.Error(), "Test-"+all[0].Row) {
		t.Errorf("a test that the page does not name, and one that is gone: %v", err)
	}
}

func TestMerge(t *testing.T) {
	old := record.Entry{Row: "proxy-killed", Test: "TestIt", Injected: 1, Observed: "old"}
	now := old
	now.Observed = "new"
	soak := old
	soak.Soak = true
	gone := record.Entry{Row: "no row", Test: "TestIt", Injected: 1}
	renamed := record.Entry{Row: "proxy-killed", Test: "TestFormer", Injected: 1}
	got := merge([]record.Entry{soak, old, gone, renamed}, []record.Entry{now})
	if len(got) != 2 || got[0] != now || got[1] != soak {
		t.Errorf("%+v", got)
	}
	if got = merge([]record.Entry{old}, []record.Entry{soak}); len(got) != 2 {
		t.Errorf("%+v", got)
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}
