package main

import (
	"fmt"
	"image/color"
	"math"
	"os"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// lineColors tell lines apart, also for those who see no red or no green (Okabe and Ito).
var lineColors = []color.Color{color.RGBA{213, 94, 0, 255}, color.RGBA{0, 114, 178, 255}, color.RGBA{86, 180, 233, 255},
	color.RGBA{0, 0, 0, 255}, color.RGBA{0, 158, 115, 255}, color.RGBA{204, 121, 167, 255}}

// draw writes a plot of samples as SVG.
func (p Plot) draw(samples []Sample, file string) error {
	out := plot.New()
	for _, style := range []*draw.TextStyle{&out.Title.TextStyle, &out.X.Label.TextStyle, &out.Y.Label.TextStyle,
		&out.X.Tick.Label, &out.Y.Tick.Label, &out.Legend.TextStyle} {
		style.Font.Variant = "Sans"
	}
	out.Title.Text, out.X.Label.Text, out.Y.Label.Text = p.Title, p.XLabel, p.Unit
	out.BackgroundColor = color.White // a page may be dark
	out.Y.Min = 0
	if p.LogX {
		out.X.Scale, out.X.Tick.Marker = plot.LogScale{}, plot.TickerFunc(logTicks)
	}
	if p.LogY {
		out.Y.Scale, out.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(logTicks)
	}
	out.Add(plotter.NewGrid())
	lowest := math.Inf(1)
	for i, l := range p.Lines {
		points := p.points(l.Figure, samples)
		if len(points) == 0 {
			return fmt.Errorf("plot %s: nothing was measured of the figure %q", p.File, l.Figure)
		}
		for _, at := range points {
			lowest = min(lowest, at.Y)
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return fmt.Errorf("plot %s, figure %q: %w", p.File, l.Figure, err)
		}
		line.Color, dots.Color = lineColors[i%len(lineColors)], lineColors[i%len(lineColors)]
		line.Width, dots.Radius, dots.Shape = vg.Points(1.5), vg.Points(2.5), draw.CircleGlyph{}
		out.Add(line, dots)
		out.Legend.Add(l.Label, line, dots)
	}
	// Above the lines there is room for the legend.
	if p.LogY {
		out.Y.Min, out.Y.Max = lowest, out.Y.Max*math.Pow(out.Y.Max/lowest, 0.4)
	} else {
		out.Y.Min, out.Y.Max = 0, out.Y.Max*(1.1+0.08*float64(len(p.Lines)))
	}
	out.Legend.Top, out.Legend.Left, out.Legend.Padding = true, true, vg.Points(2)
	to := vgsvg.New(16*vg.Centimeter, 10*vg.Centimeter)
	out.Draw(draw.Crop(draw.New(to), 0, -vg.Points(20), 0, -vg.Points(4))) // the last label is wider than the plot
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := to.WriteTo(f); err != nil {
		return fmt.Errorf("plot %s: %w", p.File, err)
	}
	return f.Close()
}

// logTicks labels a logarithmic axis as people write numbers.
func logTicks(low, high float64) []plot.Tick {
	ticks := plot.LogTicks{Prec: -1}.Ticks(low, high)
	for i, t := range ticks {
		if t.Label != "" {
			ticks[i].Label = strconv.FormatFloat(t.Value, 'f', -1, 64)
		}
	}
	return ticks
}

// points are the medians of a figure by the sizes at which it was taken. What has no place on a
// logarithmic scale is left out.
func (p Plot) points(name string, samples []Sample) (points plotter.XYs) {
	values := make(map[float64][]float64)
	var sizes []float64
	for _, s := range samples {
		if s.Figure != name || p.LogX && s.X <= 0 {
			continue
		}
		if values[s.X] == nil {
			sizes = append(sizes, s.X)
		}
		values[s.X] = append(values[s.X], s.Value)
	}
	for _, x := range sizes {
		y := summarize(values[x]).Median
		if !p.LogY || y > 0 {
			points = append(points, plotter.XY{X: x, Y: y})
		}
	}
	return points
}
