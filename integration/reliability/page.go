package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/busylamp/busylamp/integration/record"
)

const intro = `# What busylamp survives

Every row is a fault, injected by tests that anyone can run, against the promises I1 to I8 of
the [README](../README.md#what-it-guarantees). "Times" is how often the fault came, or calls,
steps and requests where it went on all the while; "observed" is what was measured, with
Kamailio 5.6.3 on a machine of 2 shared cores that ran proxies, phones and presence servers as
well. A test whose traffic or whose faults fall below its minimum fails.

` + "`make test`" + ` runs all of it in short, and fails if a row was not shown; ` + "`make soak`" + ` runs the long
variants (*soak*). ` + "`make reliability`" + ` makes this page of what they have recorded. Do not edit it.

`

// page renders the page.
func page(entries []record.Entry) string {
	var b strings.Builder
	b.WriteString(intro)
	b.WriteString("| fault | must hold | times |\n|---|---|---|\n")
	for _, r := range record.Rows {
		times := 0
		for _, e := range of(r, entries) {
			times += e.Injected
		}
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s |\n", cell(r.Fault), anchor(r), cell(r.Holds), thousands(times))
	}
	for _, r := range record.Rows {
		fmt.Fprintf(&b, "\n## %s\n\n%s.\nMust hold: %s.\n%s\n| test | times | observed | on |\n|---|---|---|---|\n", anchor(r), upper(r.Fault), r.Holds, falls(r))
		for _, e := range of(r, entries) {
			name := "`" + e.Test + "`"
			if e.Soak {
				name += " *soak*"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, thousands(e.Injected), cell(e.Observed), e.Day)
		}
		fmt.Fprintf(&b, "\n```sh\n%s```\n", commands(of(r, entries)))
	}
	return b.String()
}

// commands says how to run the tests of a row.
func commands(entries []record.Entry) string {
	var b strings.Builder
	said := map[string]bool{}
	for _, e := range entries {
		if e.Soak {
			continue
		}
		var run strings.Builder
		for i, part := range strings.Split(e.Test, "/") {
			if i > 0 {
				run.WriteString("/")
			}
			run.WriteString("^" + part + "$")
		}
		line := fmt.Sprintf("BUSYLAMP_E2E=1 go test -count=1 -v -run '%s' %s\n", &run, e.Package)
		if !said[line] {
			said[line] = true
			b.WriteString(line)
		}
	}
	if slices.ContainsFunc(entries, func(e record.Entry) bool { return e.Soak }) {
		b.WriteString("make soak\n")
	}
	return b.String()
}

func of(r record.Row, all []record.Entry) (out []record.Entry) {
	for _, e := range all {
		if e.Row == r.ID {
			out = append(out, e)
		}
	}
	return out
}

// falls says where a row falls short.
func falls(r record.Row) string {
	if short := record.Short[r.ID]; short != "" {
		return "Falls short: " + short + ".\n"
	}
	return ""
}

func anchor(r record.Row) string { return r.ID }

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// thousands writes 12345 as 12,345.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
