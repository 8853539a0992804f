package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// row is a line of the table, as text.
type row struct{ number, what, figure, over, value, spread, goal, verdict string }

func (r Result) row() row {
	out := row{what: r.Goal.What, figure: number(r.Figure.Median) + unit(r.Unit), verdict: string(r.Verdict)}
	if r.Goal.Number > 0 {
		out.number = strconv.Itoa(r.Goal.Number)
	}
	if r.Over.N > 0 {
		out.over = number(r.Over.Median) + unit(r.Unit)
		out.value = number(r.Value) + "x"
	}
	if r.Figure.N > 1 {
		out.spread = "±" + number(r.Spread)
	}
	suffix := unit(r.Unit)
	if r.Goal.Over != "" {
		suffix = "x"
	}
	switch {
	case r.Goal.AtMost > 0 || r.Goal.Exactly:
		out.goal = "≤ " + number(r.Goal.AtMost) + suffix
	case r.Goal.AtLeast > 0:
		out.goal = "≥ " + number(r.Goal.AtLeast) + suffix
	}
	return out
}

func (r row) cells() []string {
	return []string{r.number, r.what, r.figure, r.over, r.value, r.spread, r.goal, r.verdict}
}

var heads = []string{"", "measure", "median", "of", "ratio", "spread", "goal", ""}

// textTable writes results for a terminal.
func textTable(results []Result) string {
	rows := [][]string{heads}
	for _, r := range results {
		rows = append(rows, r.row().cells())
	}
	width := make([]int, len(heads))
	for _, cells := range rows {
		for i, c := range cells {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	var b strings.Builder
	for _, cells := range rows {
		var line strings.Builder
		for i, c := range cells {
			pad := strings.Repeat(" ", width[i]-len([]rune(c)))
			if i == 1 || i == 7 {
				line.WriteString(c + pad + "  ")
			} else {
				line.WriteString(pad + c + "  ")
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}

// markdownTable writes results for a page.
func markdownTable(results []Result) string {
	var b strings.Builder
	b.WriteString("| | measure | median | of | ratio | spread | goal | |\n|---|---|---:|---:|---:|---:|---:|---|\n")
	for _, r := range results {
		cells := r.row().cells()
		if r.Verdict == Met || r.Verdict == Missed {
			cells[7] = "**" + cells[7] + "**"
		}
		for i := range cells {
			cells[i] = strings.ReplaceAll(cells[i], "|", `\|`)
		}
		b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
	return b.String()
}

func unit(u string) string {
	if u == "" {
		return ""
	}
	return " " + u
}

// number writes three figures that count, and thousands with commas.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a == math.Trunc(a) && a < 1000, math.IsNaN(v), math.IsInf(v, 0):
		return strconv.FormatFloat(v, 'f', -1, 64)
	case a < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case a < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return thousands(int64(math.Round(v)))
	}
}

// thousands writes 12345 as 12,345.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
