package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/busylamp/busylamp/integration/stack"
)

func init() {
	register(Measure{
		Name: "rates",
		What: "how cost grows with calls a second",
		How: "The proxies of goal 4, and the bare one; at each of ten rates sipp places calls for 4 s at one of them after the " +
			"other. CPU as for goal 1, latency as for goal 4. pua_dialoginfo is left out above 800 calls/s, where it leaves lamps lit (goal 3).",
		Plots: []Plot{
			{File: "rates-cpu", Title: "CPU per call", XLabel: "calls a second", Unit: "us", Lines: []Line{
				{"cpu, pua", "Kamailio with pua_dialoginfo"}, {"cpu, include", "Kamailio with busylamp.cfg, and busylamp"},
				{"kamailio, include", "Kamailio with busylamp.cfg"}, {"kamailio, bare", "Kamailio, dialog tracking alone"}}},
			{File: "rates-latency", Title: "200 OK to PUBLISH on the wire", XLabel: "calls a second", Unit: "ms", LogY: true, Lines: []Line{
				{"p50, include", "busylamp, p50"}, {"p99, include", "busylamp, p99"}, {"p50, pua", "pua_dialoginfo, p50"}, {"p99, pua", "pua_dialoginfo, p99"}}},
		},
		Run: rates,
	})
	register(Measure{
		Name: "live",
		What: "how cost grows with live presentities",
		How: "The stand-ins of goal 8 and one sidecar, in which more and more calls are up; at each of ten sizes 1,000 calls a second begin " +
			"and as many end, for 8 s. CPU and resident memory are the whole sidecar's. Each size is taken right after the calls that make it up " +
			"have begun: where those are many (100,000 and more), busylamp still has the second processor that it took for them, and a call costs half as much again.",
		Plots: []Plot{
			{File: "live-cpu", Title: "busylamp's CPU per call, 1,000 calls/s", XLabel: "live presentities", Unit: "us", LogX: true,
				Lines: []Line{{"cpu by live", "busylamp"}}},
			{File: "live-memory", Title: "busylamp's resident memory", XLabel: "live presentities", Unit: "MB", LogX: true, LogY: true,
				Lines: []Line{{"resident by live", "busylamp"}}},
		},
		Run: live,
	})
	register(Measure{
		Name: "publishers",
		What: "how cost grows with publishers",
		How:  "200 calls/s for 4 s; busylamp publishes to 1 to 10 presence servers, each a responder of its own. CPU of busylamp.",
		Plots: []Plot{{File: "publishers", Title: "busylamp's CPU per call, 200 calls/s", XLabel: "publishers", Unit: "us",
			Lines: []Line{{"busylamp by publishers", "busylamp"}}}},
		Run: publishers,
	})
	register(Measure{
		Name: "sources",
		What: "how cost grows with sources",
		How: "200 calls/s for 4 s; besides the calls, 0 to 9 plugins (plugin/template, a process each) are heard of all users, and " +
			"each claims something of 100 users. CPU of busylamp, without its plugins.",
		Plots: []Plot{{File: "sources", Title: "busylamp's CPU per call, 200 calls/s", XLabel: "sources besides calls", Unit: "us",
			Lines: []Line{{"busylamp by sources", "busylamp"}}}},
		Run: sources,
	})
}

const growthTime = 4 * time.Second

func (e Env) sizes(all ...int) []int {
	if e.Quick {
		return []int{all[0], all[len(all)/2]}
	}
	return all
}

func rates(ctx context.Context, e Env) (all []Sample, err error) {
	o := e.rig(bare, include, pua)
	o.tap = true
	r, err := newRig(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closed := r.Close(); err == nil {
			err = closed
		}
	}()
	sizes := e.sizes(50, 100, 200, 300, 400, 500, 600, 700, 800, 1000)
	for i, rate := range sizes {
		for j, name := range alternate(o.variants, i) {
			if name == pua && rate > 800 {
				continue
			}
			e.Progress(i*len(o.variants)+j+1, len(sizes)*len(o.variants), "%d calls/s at %s", rate, name)
			l, err := r.call(ctx, r.variants[name], i%9+1, rate, growthTime)
			if err != nil {
				return nil, fmt.Errorf("%s at %d calls/s: %w", name, rate, err)
			}
			add := func(figure, unit string, value float64) {
				all = append(all, Sample{Figure: figure + ", " + name, Unit: unit, X: float64(rate), Value: value})
			}
			add("kamailio", "us/call", l.perCall(l.kamailio))
			add("cpu", "us/call", l.perCall(l.kamailio+l.busylamp))
			add("failed calls", "", float64(l.Failed))
			if name != bare {
				add("p50", "ms", percentile(l.standing.times(), 0.5))
				add("p99", "ms", percentile(l.standing.times(), 0.99))
			}
		}
	}
	return all, nil
}

func live(ctx context.Context, e Env) (all []Sample, err error) {
	runtime.LockOSThread() // the sidecar dies with the thread that started it
	in, err := newStandin()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	s, err := startSidecar(ctx, e, in, filepath.Join(e.Dir, "live"), "3600s")
	if err != nil {
		return nil, err
	}
	defer s.kill()
	a := &among{sidecar: s}
	const rate, seconds = 1000, 8
	sizes := e.sizes(500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000)
	for i, n := range sizes {
		e.Progress(i+1, len(sizes), "%d live presentities", 2*n)
		if err := a.grow(ctx, n); err != nil {
			return nil, err
		}
		cpu, err := a.churn(ctx, rate, seconds)
		if err != nil {
			return nil, err
		}
		resident, _, err := s.resident()
		if err != nil {
			return nil, err
		}
		all = append(all, Sample{Figure: "cpu by live", Unit: "us/call", X: float64(2 * n), Value: cpu},
			Sample{Figure: "resident by live", Unit: "MB", X: float64(2 * n), Value: resident / 1e6})
	}
	return all, nil
}

func publishers(ctx context.Context, e Env) (all []Sample, err error) {
	sizes := e.sizes(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	for i, n := range sizes {
		e.Progress(i+1, len(sizes), "%d publishers", n)
		o := e.rig(include)
		o.others = n - 1
		s, err := growthAt(ctx, o, "busylamp by publishers", n)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func sources(ctx context.Context, e Env) (all []Sample, err error) {
	sizes := e.sizes(0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	for i, n := range sizes {
		e.Progress(i+1, len(sizes), "%d sources", n)
		o := e.rig(include)
		o.sidecar = func(s *stack.Stack, c *stack.SidecarConfig) error { return withSources(ctx, s, c, n) }
		s, err := growthAt(ctx, o, "busylamp by sources", n)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// growthAt takes busylamp's CPU per call at one size.
func growthAt(ctx context.Context, o rigOptions, figure string, size int) (s Sample, err error) {
	const rate = 200
	r, err := newRig(ctx, o)
	if err != nil {
		return s, err
	}
	defer func() {
		if closed := r.Close(); err == nil {
			err = closed
		}
	}()
	v := r.variants[include]
	if _, err := r.call(ctx, v, 9, rate, time.Second); err != nil {
		return s, err
	}
	l, err := r.call(ctx, v, 1, rate, growthTime)
	if err == nil && l.Failed > 0 {
		err = fmt.Errorf("%d of %d calls failed", l.Failed, l.Created)
	}
	return Sample{Figure: figure, Unit: "us/call", X: float64(size), Value: l.perCall(l.busylamp)}, err
}

// withSources gives a sidecar n sources which each claim something of a hundred of those who are
// called.
func withSources(ctx context.Context, s *stack.Stack, c *stack.SidecarConfig, n int) error {
	if n == 0 {
		return nil
	}
	const template, people = "busylamp-source-template", 100
	if err := s.Plugin(ctx, "./plugin/template", template, ""); err != nil {
		return err
	}
	file := filepath.Join(s.Dir, "people.txt")
	var text strings.Builder
	for i := range people {
		user := fmt.Sprintf("sip:b1%d@%s", i+1, stack.Domain)
		fmt.Fprintf(&text, "%s away\n", user)
		c.Watch = append(c.Watch, user)
	}
	for i := range n {
		c.Sources = append(c.Sources, stack.SourceConfig{Name: fmt.Sprintf("source%d", i+1), Plugin: template, PerSecond: people,
			Config: map[string]any{"file": file, "interval": "1s"}})
	}
	return os.WriteFile(file, []byte(text.String()), 0o600)
}
