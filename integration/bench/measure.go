package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

// Measure is something that is measured: it runs by itself and returns figures. A file of its
// own for each (goal5.go and so on) hands its measures to [register] in its init function:
//
//	func init() {
//		register(Measure{
//			Name:  "publisher",
//			Child: true,
//			What:  "publisher alone: claim to 200 to durable record",
//			How:   "The engine, its loop, ... against a raw responder in a process of its own.",
//			Goals: []Goal{
//				{Number: 5, What: "PUBLISH a second, UDP", Figure: "publish udp", AtLeast: 40_000},
//				{Number: 5, What: "the same over a raw UDP ping-pong", Figure: "publish udp", Over: "ping-pong", AtLeast: 0.30},
//			},
//			Run: func(ctx context.Context, e Env) ([]Sample, error) { ... },
//		})
//	}
//
// Figures that are compared with each other are taken in alternation, in one Run: round 1 of
// each, then round 2 of each. One round's noise is then in both.
type Measure struct {
	Name  string // of -only and -child; letters and dashes
	What  string // for the table's reader, below 60 letters
	How   string // for the page: what ran, what was counted and how, in a few sentences
	Goals []Goal
	Plots []Plot
	// Child has it run in a process of its own (the bench again, with -child NAME), whose memory
	// and CPU time are then this measure's alone. Its samples come back by standard output, so
	// Run writes nothing there.
	Child bool
	// Run measures. It keeps to ctx, and leaves nothing running. Files go to e.Dir.
	Run func(ctx context.Context, e Env) ([]Sample, error)
}

// Sample is one figure of one round.
type Sample struct {
	Figure string  `json:"figure"` // what was measured: "kamailio cpu, bare"; the same text in every round
	Unit   string  `json:"unit"`   // "us/call", "1/s", "ms", "B", ""
	Round  int     `json:"round"`  // from 0; a figure that is taken once has round 0 alone
	X      float64 `json:"x"`      // the size at which it was taken, for a [Plot]; 0 where there is none
	Value  float64 `json:"value"`
}

// Goal is what the median of a figure must be. One of AtMost and AtLeast is set; where both are
// 0 the figure is only told (a line of the table without a verdict).
type Goal struct {
	Number  int     // of the goal in the table, 0 for none
	What    string  // the table's line
	Figure  string  // whose median counts
	Over    string  // a figure by which it is divided, "" for none
	AtMost  float64 //
	AtLeast float64 //
	Exactly bool    // AtMost is a bound of a count such as failed calls, where 0 is a bound, too
}

// Plot draws figures over the size X of their samples.
type Plot struct {
	File         string // NAME.svg, beside the page
	Title        string
	XLabel, Unit string // of the axes
	LogX, LogY   bool
	Lines        []Line
}

// Line is a figure in a [Plot].
type Line struct{ Figure, Label string }

// Env is what a measure finds around it.
type Env struct {
	Quick    bool     // be short: this run only shows that it works
	Dir      string   // folder for its files, which goes when the run ends
	Busylamp string   // path of the program that is measured where a proxy is
	Defines  []string // more defines for the proxy with busylamp.cfg
	// Progress says what is going on, step n (from 1) of m.
	Progress func(n, m int, format string, args ...any)
}

// Rounds returns how often figures that are compared are taken.
func (e Env) Rounds() int {
	if e.Quick {
		return 2
	}
	return 5
}

// all are the measures, and helpers the programs for [Helper].
var (
	all     []Measure
	helpers = map[string]func(ctx context.Context, args []string) error{}
)

// register adds a measure to those that make bench runs.
func register(m Measure) { all = append(all, m) }

// registerHelper names a function that a measure runs in a further process, such as the peer
// of a connection, whose CPU time is not to be counted. See [Helper].
func registerHelper(name string, run func(ctx context.Context, args []string) error) {
	helpers[name] = run
}

// Helper returns a command that runs a registered helper in a process of its own. It should end
// with its standard input, whatever becomes of this process.
func Helper(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{"-helper", name, "--"}, args...)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, nil
}

// running is a helper that is ready.
type running struct {
	line string // that it said when it was
	in   io.WriteCloser
	cmd  *exec.Cmd
}

// startHelper starts a helper that says a line when it is ready, and waits for that.
func startHelper(ctx context.Context, name string, args ...string) (*running, error) {
	cmd, err := Helper(ctx, name, args...)
	if err != nil {
		return nil, err
	}
	r := &running{cmd: cmd}
	if r.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if r.line, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		r.stop()
		return nil, fmt.Errorf("helper %s did not start: %w", name, err)
	}
	r.line = strings.TrimSpace(r.line)
	return r, nil
}

// stop has it end, as its standard input does.
func (r *running) stop() {
	_ = r.in.Close()
	_ = r.cmd.Wait() // it may have been killed with the context
}

// measures returns the registered measures in the order of their goals.
func measures() []Measure {
	sorted := slices.Clone(all)
	first := func(m Measure) int {
		n := 1000 // growth comes last
		for _, g := range m.Goals {
			if g.Number > 0 {
				n = min(n, g.Number)
			}
		}
		return n
	}
	slices.SortStableFunc(sorted, func(a, b Measure) int { return first(a) - first(b) })
	return sorted
}

// run runs a measure, in a child process if it wants one.
func (m Measure) run(ctx context.Context, e Env) ([]Sample, error) {
	if !m.Child {
		return m.Run(ctx, e)
	}
	args := []string{"-child", m.Name, "-dir", e.Dir, "-busylamp", e.Busylamp}
	if e.Quick {
		args = append(args, "-quick")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	samples, readErr := readSamples(out)
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%s in a child process: %w", m.Name, err)
	}
	return samples, readErr
}

// child is the other end of that: it measures, and writes samples to out.
func child(ctx context.Context, name string, e Env, out io.Writer) error {
	i := slices.IndexFunc(all, func(m Measure) bool { return m.Name == name })
	if i < 0 {
		return fmt.Errorf("-child %s: no such measure", name)
	}
	samples, err := all[i].Run(ctx, e)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(out)
	for _, s := range samples {
		if err := enc.Encode(s); err != nil {
			return err
		}
	}
	return nil
}

func readSamples(in io.Reader) (samples []Sample, err error) {
	dec := json.NewDecoder(in)
	for {
		var s Sample
		switch err := dec.Decode(&s); {
		case errors.Is(err, io.EOF):
			return samples, nil
		case err != nil:
			return nil, fmt.Errorf("a child's samples: %w", err)
		}
		samples = append(samples, s)
	}
}
