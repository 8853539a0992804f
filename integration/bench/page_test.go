package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// someOutcomes are a measure that meets one goal and misses another, and one that grows.
func someOutcomes(t *testing.T) []Outcome {
	t.Helper()
	m := Measure{Name: "cost", What: "cost | of calls", How: "By looking.", Goals: []Goal{
		{What: "besides", Figure: "failed", Exactly: true},
		{Number: 2, What: "worse", Figure: "kamailio, pua, SIP workers", Over: "kamailio, bare, SIP workers", AtMost: 2},
		{Number: 1, What: "better", Figure: "kamailio, include, SIP workers", Over: "kamailio, bare, SIP workers", AtMost: 1.1}}}
	var samples []Sample
	for round := range 3 {
		for figure, v := range map[string]float64{"kamailio, bare, SIP workers": 600, "kamailio, include, SIP workers": 630, "kamailio, pua, SIP workers": 1300} {
			samples = append(samples, Sample{Figure: figure, Unit: "us/call", Round: round, Value: v})
		}
	}
	samples = append(samples, Sample{Figure: "failed", Value: 0})
	o := Outcome{Measure: m, Name: m.Name, How: m.How, Took: time.Minute, Samples: samples}
	for _, g := range m.Goals {
		r, err := judge(g, samples)
		if err != nil {
			t.Fatal(err)
		}
		o.Results = append(o.Results, r)
	}
	grows := Measure{Name: "rates", What: "growth", How: "At sizes.", Plots: []Plot{somePlot}}
	return []Outcome{o, {Measure: grows, Name: "rates", Samples: growing()}}
}

// TestRedraw: the page and its plots can be written anew of what is kept of a run, and say of it
// what they said before, whatever the measure is like by now.
func TestRedraw(t *testing.T) {
	dir := t.TempDir()
	at := slices.IndexFunc(all, func(m Measure) bool { return m.Name == "live" })
	o := Outcome{Measure: all[at], Name: "live", How: "As it was then.", Took: time.Minute}
	for _, p := range o.Measure.Plots {
		for _, l := range p.Lines {
			o.Samples = append(o.Samples, Sample{Figure: l.Figure, X: 10, Value: 1}, Sample{Figure: l.Figure, X: 100, Value: 2})
		}
	}
	if err := writeRaw(filepath.Join(dir, rawFile), []Outcome{o}); err != nil {
		t.Fatal(err)
	}
	first := page([]Outcome{o}, []string{"2 cores"}, []string{"busylamp.txt"}, floors)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, pageFile), []byte(first), 0o600), os.Mkdir(filepath.Join(dir, profileDir), 0o700),
		os.WriteFile(filepath.Join(dir, profileDir, "busylamp.txt"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := redrawPage(dir); err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(filepath.Join(dir, pageFile))
	if err != nil || string(again) != first || !strings.Contains(first, "As it was then.") {
		t.Errorf("%v: before\n%s\nand now\n%s", err, first, again)
	}
	if _, err := os.Stat(filepath.Join(dir, "live-cpu.svg")); err != nil {
		t.Error(err)
	}
}

func TestPage(t *testing.T) {
	text := page(someOutcomes(t), []string{"2 cores"}, []string{"busylamp.txt"}, "## Floors\n\nThe floor.\n")
	for _, want := range []string{
		"- 2 cores\n",
		"| 1 | better | 630 us/call | 600 us/call | 1.05x | ±0 | ≤ 1.10x | **met** |\n| 2 | worse |",
		"2.17x | ±0 | ≤ 2x | **missed** |",
		"|  | besides | 0 |  |  |  | ≤ 0 | **met** |",
		"| SIP workers | 600 | 630 | 1,300 |",
		"![CPU](cpu.svg)", "`-only cost`, 1m0s). By looking.", "\n## Floors\n\nThe floor.\n", "[busylamp](profiles/busylamp.txt)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	if !strings.Contains(markdownTable([]Result{{Goal: Goal{What: "a | b"}}}), `a \| b`) {
		t.Error("a bar in a cell ends it")
	}
}

func TestTextTable(t *testing.T) {
	table := textTable(results(someOutcomes(t)))
	lines := strings.Split(strings.TrimRight(table, "\n"), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[1], "1  better") || !strings.HasSuffix(lines[2], "missed") {
		t.Errorf("the table is\n%s", table)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 5: "5", 0.657: "0.66", 12.34: "12.3", 123.4: "123", 1234.6: "1,235", 1_000_000: "1,000,000", -2500: "-2,500"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %s, want %s", v, got, want)
		}
	}
}

var somePlot = Plot{File: "cpu", Title: "CPU", XLabel: "calls a second", Unit: "us", LogX: true, LogY: true,
	Lines: []Line{{"cpu, bare", "bare"}, {"cpu, include", "with <busylamp>"}}}

func growing() (samples []Sample) {
	for round := range 2 {
		for _, x := range []float64{0, 50, 100, 1000} {
			samples = append(samples, Sample{Figure: "cpu, bare", X: x, Round: round, Value: 100 + x},
				Sample{Figure: "cpu, include", X: x, Round: round, Value: 200 + x})
		}
	}
	return samples
}

// TestPlot: what is drawn is XML, an svg element with both lines' labels.
func TestPlot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cpu.svg")
	if err := somePlot.draw(growing(), file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	root, said := "", ""
	for dec := xml.NewDecoder(bytes.NewReader(text)); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if root == "" {
				root = token.Name.Local
			}
		case xml.CharData:
			said += string(token)
		}
	}
	if root != "svg" || !strings.Contains(said, "with <busylamp>") || !strings.Contains(said, "bare") {
		t.Errorf("root %q, text %q", root, said)
	}
	if len(text) > 200<<10 {
		t.Errorf("%d bytes for a plot", len(text))
	}
	if got := somePlot.points("cpu, bare", growing()); len(got) != 3 || got[0].X != 50 || got[0].Y != 150 {
		t.Errorf("points %v: 0 has no place on a logarithmic scale", got)
	}
	other := somePlot
	other.Lines = []Line{{"nothing", "nothing"}}
	if err := other.draw(growing(), file); err == nil {
		t.Error("a line without points has no error")
	}
}

// TestSamplesByPipe: what a child writes, its parent reads.
func TestSamplesByPipe(t *testing.T) {
	var pipe bytes.Buffer
	enc := json.NewEncoder(&pipe)
	want := growing()
	for _, s := range want {
		if err := enc.Encode(s); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readSamples(&pipe)
	if err != nil || len(got) != len(want) || got[3] != want[3] {
		t.Errorf("%d samples, %v", len(got), err)
	}
	if _, err := readSamples(strings.NewReader(`{"figure":"a"}` + "\n{half")); err == nil {
		t.Error("a child that was cut off has no error")
	}
}

// TestChoose: -only takes numbers of goals and names, and refuses what is neither.
func TestChoose(t *testing.T) {
	all := []Measure{{Name: "cost", Goals: []Goal{{Number: 1}, {Number: 2}}}, {Name: "latency", Goals: []Goal{{Number: 4}}}, {Name: "rates"}}
	for only, want := range map[string]string{"": "cost latency rates", "2": "cost", "1,2": "cost", "rates,4": "latency rates"} {
		chosen, err := choose(all, only)
		var names []string
		for _, m := range chosen {
			names = append(names, m.Name)
		}
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("-only %q: %q, %v; want %q", only, got, err, want)
		}
	}
	for _, only := range []string{"7", "cots", "1,", "0"} {
		if _, err := choose(all, only); err == nil {
			t.Errorf("-only %q is taken", only)
		}
	}
}
