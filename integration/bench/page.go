package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What [publish] writes.
const (
	pageFile   = "RESULTS.md"
	rawFile    = "results.json"
	profileDir = "profiles"
)

// floors is the part of the page that is written by hand.
//
//go:embed floors.md
var floors string

const intro = `# Measured side by side

What ` + "`make bench`" + ` printed on one machine, in one run: busylamp beside the bare proxy, and beside what one would
take instead, pua_dialoginfo inside the proxy. Medians of alternating rounds; the spread is half the distance between the
quartiles. A goal counts as missed when it is missed by more than that. Do not edit this page: ` + "`make bench`" + ` writes it, with
[results.json](results.json), the plots and the profiles. The part about floors is written by hand (floors.md).

`

// publish writes the page, the raw figures, the plots and the profiles' tops.
func publish(outcomes []Outcome, e Env, dir string) error {
	errs := []error{drawPlots(outcomes, dir)}
	tops, err := writeProfiles(e.Dir, filepath.Join(dir, profileDir))
	errs = append(errs, err)
	errs = append(errs, writeRaw(filepath.Join(dir, rawFile), outcomes))
	text := page(outcomes, surroundings(e.Busylamp), tops, floors)
	return errors.Join(append(errs, os.WriteFile(filepath.Join(dir, pageFile), []byte(text), 0o644))...)
}

func drawPlots(outcomes []Outcome, dir string) error {
	var errs []error
	for _, o := range outcomes {
		for _, p := range o.Measure.Plots {
			errs = append(errs, p.draw(o.Samples, filepath.Join(dir, p.File+".svg")))
		}
	}
	return errors.Join(errs...)
}

// redrawPage writes the page and the plots anew from what was measured. What is said of the
// machine stays.
func redrawPage(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, rawFile))
	if err != nil {
		return fmt.Errorf("-redraw: %w: run make bench first", err)
	}
	var outcomes []Outcome
	if err := json.Unmarshal(raw, &outcomes); err != nil {
		return fmt.Errorf("-redraw: %s: %w", rawFile, err)
	}
	for i := range outcomes {
		o := &outcomes[i]
		at := slices.IndexFunc(all, func(m Measure) bool { return m.Name == o.Name })
		if at < 0 {
			return fmt.Errorf("-redraw: %s has the measure %s, which there is no more: run make bench", rawFile, o.Name)
		}
		o.Measure = all[at]
		if err := o.judge(); err != nil {
			return fmt.Errorf("-redraw: %s: %w", o.Name, err)
		}
	}
	old, err := os.ReadFile(filepath.Join(dir, pageFile))
	if err != nil {
		return err
	}
	before, _, _ := strings.Cut(string(old), "\n## ")
	var facts, tops []string
	for line := range strings.Lines(before) {
		if fact, ok := strings.CutPrefix(line, "- "); ok {
			facts = append(facts, strings.TrimSpace(fact))
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, profileDir, "*.txt"))
	for _, f := range files {
		tops = append(tops, filepath.Base(f))
	}
	return errors.Join(err, drawPlots(outcomes, dir), os.WriteFile(filepath.Join(dir, pageFile), []byte(page(outcomes, facts, tops, floors)), 0o644))
}

// page renders the page. facts are lines on machine and versions, tops the names of profiles.
func page(outcomes []Outcome, facts, tops []string, floors string) string {
	var b strings.Builder
	b.WriteString(intro)
	for _, f := range facts {
		b.WriteString("- " + f + "\n")
	}
	var goals, told []Result
	for _, r := range results(outcomes) {
		if r.Goal.Number > 0 {
			goals = append(goals, r)
		} else {
			told = append(told, r)
		}
	}
	b.WriteString("\n## Goals\n\n" + markdownTable(goals))
	b.WriteString("\n## Besides\n\n" + markdownTable(told))
	b.WriteString(rolesTable(outcomes))
	b.WriteString("\n## How cost grows\n")
	for _, o := range outcomes {
		for _, p := range o.Measure.Plots {
			fmt.Fprintf(&b, "\n![%s](%s.svg)\n", p.Title, p.File)
		}
	}
	b.WriteString("\n## How each was measured\n\n")
	for _, o := range outcomes {
		fmt.Fprintf(&b, "- **%s** (`-only %s`, %v). %s\n", upper(o.Measure.What), o.Name, o.Took.Round(time.Second), o.How)
	}
	if floors = strings.TrimSpace(floors); floors != "" {
		b.WriteString("\n" + floors + "\n")
	}
	if len(tops) > 0 {
		b.WriteString("\n## Profiles\n\n")
		for _, name := range tops {
			fmt.Fprintf(&b, "- [%s](%s/%s)\n", strings.TrimSuffix(name, ".txt"), profileDir, name)
		}
	}
	return b.String()
}

// rolesTable tells Kamailio's CPU per call by its processes.
func rolesTable(outcomes []Outcome) string {
	i := slices.IndexFunc(outcomes, func(o Outcome) bool { return o.Name == "cost" })
	if i < 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n## Where Kamailio's time goes\n\nMicroseconds per call at 500 calls/s, medians.\n\n| processes | bare | with busylamp.cfg | with pua_dialoginfo |\n|---|---:|---:|---:|\n")
	for _, role := range []string{"SIP workers", "async", "evapi", "timers", "TCP", "others"} {
		fmt.Fprintf(&b, "| %s |", role)
		for _, name := range []string{bare, include, pua} {
			values, _ := figure(outcomes[i].Samples, "kamailio, "+name+", "+role)
			cell := ""
			if len(values) > 0 {
				cell = number(summarize(values).Median)
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
