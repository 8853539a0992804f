package main

import (
	"math"
	"testing"
)

func TestSummarize(t *testing.T) {
	for _, c := range []struct {
		values         []float64
		median, spread float64
	}{
		{nil, 0, 0},
		{[]float64{7}, 7, 0},
		{[]float64{4, 2}, 3, 0.5},
		{[]float64{5, 1, 3, 2, 4}, 3, 1},
		{[]float64{1, 2, 3, 4, 1000}, 3, 1}, // one spoilt round
	} {
		s := summarize(c.values)
		if s.Median != c.median || s.Spread != c.spread || s.N != len(c.values) {
			t.Errorf("summarize(%v) = %+v, want median %v and spread %v", c.values, s, c.median, c.spread)
		}
	}
	values := []float64{3, 1, 2}
	if summarize(values); values[0] != 3 {
		t.Error("summarize has sorted its caller's values")
	}
}

func TestVerdict(t *testing.T) {
	most, least, none, told := Goal{AtMost: 1.1}, Goal{AtLeast: 40_000}, Goal{Exactly: true}, Goal{}
	for _, c := range []struct {
		goal          Goal
		value, spread float64
		want          Verdict
	}{
		{most, 1.1, 0, Met}, {most, 1.15, 0.06, Near}, {most, 1.15, 0.04, Missed}, {most, math.NaN(), 0, Missed}, {most, math.Inf(1), 9, Missed},
		{least, 40_000, 0, Met}, {least, 39_000, 1_500, Near}, {least, 39_000, 500, Missed},
		{none, 0, 0, Met}, {none, 1, 0, Missed},
		{told, 5, 0, Told},
	} {
		if got := c.goal.verdict(c.value, c.spread); got != c.want {
			t.Errorf("%+v: %v ± %v is %q, want %q", c.goal, c.value, c.spread, got, c.want)
		}
	}
}

func TestJudge(t *testing.T) {
	sample := func(figure string, round int, value, x float64) Sample {
		return Sample{Figure: figure, Unit: "us", Round: round, Value: value, X: x}
	}
	samples := []Sample{sample("a", 2, 33, 0), sample("a", 0, 11, 0), sample("a", 1, 24, 0), sample("a", 0, 9999, 50),
		sample("b", 0, 10, 0), sample("b", 1, 20, 0), sample("b", 2, 30, 0)}
	r, err := judge(Goal{What: "a over b", Figure: "a", Over: "b", AtMost: 1.1}, samples)
	if err != nil {
		t.Fatal(err)
	}
	// Medians 24 and 20; round by round 1.1, 1.2 and 1.1.
	if r.Value != 1.2 || math.Abs(r.Spread-0.025) > 1e-9 || r.Verdict != Missed {
		t.Errorf("value %v, spread %v, %q; want 1.2, 0.025, missed", r.Value, r.Spread, r.Verdict)
	}
	for _, g := range []Goal{{Figure: "c"}, {Figure: "a", Over: "c"}} {
		if _, err := judge(g, samples); err == nil {
			t.Errorf("%+v: a figure that nobody took has no error", g)
		}
	}
}

func TestAlternate(t *testing.T) {
	variants := []string{"a", "b", "c"}
	first := map[string]int{}
	for round := range 6 {
		order := alternate(variants, round)
		seen := map[string]bool{}
		for _, v := range order {
			seen[v] = true
		}
		if len(seen) != 3 {
			t.Errorf("round %d: %v", round, order)
		}
		first[order[0]]++
	}
	if first["a"] != 2 || first["b"] != 2 || first["c"] != 2 {
		t.Errorf("who begins: %v", first)
	}
}
