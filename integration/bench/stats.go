package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Summary is what the rounds of a figure amount to.
type Summary struct {
	N      int
	Median float64
	// Spread is half the distance between the quartiles (the quartile deviation): half of the
	// rounds lie within it of their middle. A single round that a neighbour on the machine has
	// spoilt does not widen it, as it would widen (max-min)/2, and so does not excuse a miss.
	Spread float64
}

func summarize(values []float64) Summary {
	sorted := slices.Sorted(slices.Values(values))
	return Summary{N: len(sorted), Median: quantile(sorted, 0.5), Spread: (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / 2}
}

// quantile interpolates between the two values next to it; 0 of none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (sorted[high]-sorted[low])*(at-float64(low))
}

// figure returns the rounds of a figure that was taken at no particular size.
func figure(samples []Sample, name string) (values []float64, unit string) {
	byRound := slices.SortedStableFunc(slices.Values(samples), func(a, b Sample) int { return cmp.Compare(a.Round, b.Round) })
	for _, s := range byRound {
		if s.Figure == name && s.X == 0 {
			values, unit = append(values, s.Value), s.Unit
		}
	}
	return values, unit
}

// Verdict is what became of a goal.
type Verdict string

// The verdicts. Only the last one makes the bench fail.
const (
	Told   Verdict = ""
	Met    Verdict = "met"
	Near   Verdict = "missed, within the spread"
	Missed Verdict = "missed"
)

// Result is a goal with what was measured.
type Result struct {
	Goal    Goal
	Figure  Summary
	Over    Summary // N is 0 where there is none
	Unit    string
	Value   float64 // that the goal is about: the median, or the ratio of the medians
	Spread  float64 // of Value
	Verdict Verdict
}

// judge compares a goal with what was measured.
func judge(g Goal, samples []Sample) (Result, error) {
	values, unit := figure(samples, g.Figure)
	if len(values) == 0 {
		return Result{}, fmt.Errorf("goal %q: nothing was measured of the figure %q", g.What, g.Figure)
	}
	r := Result{Goal: g, Figure: summarize(values), Unit: unit}
	r.Value, r.Spread = r.Figure.Median, r.Figure.Spread
	if g.Over != "" {
		over, _ := figure(samples, g.Over)
		if len(over) == 0 {
			return Result{}, fmt.Errorf("goal %q: nothing was measured of the figure %q", g.What, g.Over)
		}
		r.Over = summarize(over)
		r.Value, r.Spread = r.Figure.Median/r.Over.Median, summarize(ratios(values, over)).Spread
	}
	r.Verdict = g.verdict(r.Value, r.Spread)
	return r, nil
}

// ratios divides round by round, so that what both halves of a round had to bear is not taken
// for a difference.
func ratios(values, over []float64) (out []float64) {
	for i := range min(len(values), len(over)) {
		out = append(out, values[i]/over[i])
	}
	return out
}

// verdict compares a value with the goal's bounds. What is no number meets nothing.
func (g Goal) verdict(value, spread float64) Verdict {
	bound := g.AtMost > 0 || g.Exactly
	switch {
	case !bound && g.AtLeast == 0:
		return Told
	case math.IsNaN(value) || math.IsInf(value, 0):
		return Missed
	case bound && value <= g.AtMost, !bound && value >= g.AtLeast:
		return Met
	case bound && value-spread <= g.AtMost, !bound && value+spread >= g.AtLeast:
		return Near
	default:
		return Missed
	}
}
