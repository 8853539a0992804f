package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/busylamp/busylamp/integration/stack"
)

// Outcome is what one measure gave.
type Outcome struct {
	Measure Measure `json:"-"`
	Name    string
	How     string // the measure's, when it ran
	Began   time.Time
	Took    time.Duration
	Samples []Sample
	Results []Result `json:"-"`
}

// choice is what the command line asks for.
type choice struct {
	only string // goals or measures, "" for all
	raw  string // file for all samples, "" for none
	out  string // folder of the page; "": beside the source, if the run is a whole one
}

// benchmark runs the measures, prints the table and writes the page. missed tells that a goal was
// missed by more than the spread.
func benchmark(ctx context.Context, c choice, e Env) (missed bool, err error) {
	chosen, err := choose(measures(), c.only)
	if err != nil {
		return false, err
	}
	if e.Busylamp, err = filepath.Abs(e.Busylamp); err != nil {
		return false, err
	}
	if _, err := os.Stat(e.Busylamp); err != nil {
		return false, fmt.Errorf("-busylamp: %w: run make build", err)
	}
	if e.Dir, err = os.MkdirTemp("", "busylamp-bench-"); err != nil {
		return false, err
	}
	defer os.RemoveAll(e.Dir)
	var outcomes []Outcome
	var failures []error
	for i, m := range chosen {
		fmt.Fprintf(os.Stderr, "\n== %d of %d: %s (%s)\n", i+1, len(chosen), m.What, m.Name)
		e.Progress = progressOf(m.Name)
		o, err := m.outcome(ctx, e)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", m.Name, err))
			fmt.Fprintf(os.Stderr, "   %s: %v\n", m.Name, err)
			continue
		}
		outcomes = append(outcomes, o)
		fmt.Print("\n", textTable(o.Results))
	}
	fmt.Print("\n", textTable(results(outcomes)))
	missed = slices.ContainsFunc(results(outcomes), func(r Result) bool { return r.Verdict == Missed })
	return missed, errors.Join(errors.Join(failures...), c.write(outcomes, e, len(failures) == 0))
}

// write writes what was asked for. A whole run without a failure also makes the page that is kept
// beside the source.
func (c choice) write(outcomes []Outcome, e Env, whole bool) error {
	var errs []error
	if c.raw != "" {
		errs = append(errs, writeRaw(c.raw, outcomes))
	}
	if c.out == "" && c.only == "" && !e.Quick && whole {
		var err error
		if c.out, err = pageFolder(); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	if c.out != "" {
		errs = append(errs, publish(outcomes, e, c.out))
	}
	return errors.Join(errs...)
}

// pageFolder is where the page is kept.
func pageFolder() (string, error) {
	root, err := stack.Root()
	return filepath.Join(root, "integration", "bench"), err
}

func (m Measure) outcome(ctx context.Context, e Env) (Outcome, error) {
	o := Outcome{Measure: m, Name: m.Name, How: m.How, Began: time.Now()}
	var err error
	if o.Samples, err = m.run(ctx, e); err != nil {
		return o, err
	}
	o.Took = time.Since(o.Began)
	return o, o.judge()
}

// judge compares the samples with the measure's goals.
func (o *Outcome) judge() error {
	for _, g := range o.Measure.Goals {
		r, err := judge(g, o.Samples)
		if err != nil {
			return err
		}
		o.Results = append(o.Results, r)
	}
	return nil
}

// results returns all lines of the table: the goals in their order, then what is only told.
func results(outcomes []Outcome) (all []Result) {
	for _, o := range outcomes {
		all = append(all, o.Results...)
	}
	rank := func(r Result) int {
		if r.Goal.Number == 0 {
			return 1000
		}
		return r.Goal.Number
	}
	slices.SortStableFunc(all, func(a, b Result) int { return rank(a) - rank(b) })
	return all
}

// choose returns the measures that -only names, by number of goal or by name; all for "".
func choose(all []Measure, only string) (chosen []Measure, err error) {
	if only == "" {
		return all, nil
	}
	wanted := strings.Split(only, ",")
	seen := make(map[string]bool)
	for _, m := range all {
		has := false
		for _, w := range wanted {
			n, _ := strconv.Atoi(w)
			if w == m.Name || n > 0 && slices.ContainsFunc(m.Goals, func(g Goal) bool { return g.Number == n }) {
				has, seen[w] = true, true
			}
		}
		if has {
			chosen = append(chosen, m)
		}
	}
	for _, w := range wanted {
		if !seen[w] {
			return nil, fmt.Errorf("-only %s: no measure of that name or goal; -list names them", w)
		}
	}
	return chosen, nil
}

// writeRaw writes all samples as JSON.
func writeRaw(file string, outcomes []Outcome) error {
	text, err := json.MarshalIndent(outcomes, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
