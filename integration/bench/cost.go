package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

func init() {
	register(Measure{
		Name: "cost",
		What: "CPU per call, side by side",
		How: "Three proxies (proxy.cfg: bare, with busylamp.cfg and busylamp, with pua and pua_dialoginfo), all of " +
			"Debian's Kamailio with 4 UDP workers, are up throughout; sipp places 500 calls/s for 10 s at one of them, " +
			"then at the next, each round beginning with another, each call between users of its own, held for 1 s. " +
			"CPU is that of all processes of the proxy (user and system, the scheduler's account to the nanosecond, " +
			"CLOCK_PROCESS_CPUTIME_ID) from before the first call until 0.5 s after the last one's end, by calls; what " +
			"the proxy does while idle is in it. Both publishers publish to the same responder (registry.go), which knows " +
			"entity-tags and answers 412 to those that are gone.",
		Goals: []Goal{
			{Number: 1, What: "Kamailio CPU per call, our include over bare, 500 calls/s", Figure: "kamailio, include", Over: "kamailio, bare", AtMost: 1.10},
			{Number: 1, What: "(pua_dialoginfo over bare)", Figure: "kamailio, pua", Over: "kamailio, bare"},
			{Number: 2, What: "Kamailio + busylamp CPU per call, over Kamailio with pua_dialoginfo", Figure: "kamailio + busylamp", Over: "kamailio, pua", AtMost: 0.65},
			{Number: 2, What: "(busylamp alone)", Figure: "busylamp"},
			{What: "idle: bare, CPU per second", Figure: "idle kamailio, bare"},
			{What: "idle: with the include", Figure: "idle kamailio, include"},
			{What: "idle: with pua_dialoginfo", Figure: "idle kamailio, pua"},
			{What: "idle: busylamp", Figure: "idle busylamp"},
			{What: "PUBLISH requests per call, busylamp", Figure: "publishes, include"},
			{What: "PUBLISH requests per call, pua_dialoginfo", Figure: "publishes, pua"},
			{Number: 1, What: "failed calls in all rounds together, busylamp", Figure: "all failed, include", Exactly: true},
			{What: "failed calls in all rounds together, bare", Figure: "all failed, bare"},
			{What: "failed calls in all rounds together, pua_dialoginfo", Figure: "all failed, pua"},
		},
		Run: cost,
	})
}

// costRate is the calls a second of goals 1 and 2.
const costRate = 500

func cost(ctx context.Context, e Env) (all []Sample, err error) {
	variants := []string{bare, include, pua}
	r, err := newRig(ctx, e.rig(variants...))
	if err != nil {
		return nil, err
	}
	defer func() {
		if closed := r.Close(); err == nil {
			err = closed
		}
	}()
	length, rest := 10*time.Second, 2*time.Second
	if e.Quick {
		length, rest = 3*time.Second, time.Second
	}
	for _, name := range variants {
		if _, err := r.call(ctx, r.variants[name], 9, costRate, 2*time.Second); err != nil {
			return nil, fmt.Errorf("%s, warming up: %w", name, err)
		}
	}
	failed := make(map[string]int)
	for round := range e.Rounds() {
		for i, name := range alternate(variants, round) {
			e.Progress(round*len(variants)+i+1, e.Rounds()*len(variants), "%d calls/s at %s", costRate, name)
			v := r.variants[name]
			idle, err := r.idle(ctx, v, rest)
			if err != nil {
				return nil, err
			}
			l, err := r.call(ctx, v, round+1, costRate, length)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			failed[name] += l.Failed
			all = append(all, costSamples(name, round, l)...)
			all = append(all, idleSamples(name, round, idle, rest)...)
		}
	}
	for _, name := range variants {
		all = append(all, Sample{Figure: "all failed, " + name, Value: float64(failed[name])})
	}
	steps := e.Rounds() * len(variants)
	e.Progress(steps, steps, "a CPU profile of busylamp")
	if err := profile(ctx, e, "busylamp-500-calls", costRate, length); err != nil {
		e.Progress(steps, steps, "no profile: %v", err) // the figures stand without it
	}
	return all, ctx.Err()
}

// idle returns what a variant spends while nobody calls.
func (r *rig) idle(ctx context.Context, v *variant, d time.Duration) (spent, error) {
	before, err := v.spent()
	if err != nil {
		return spent{}, err
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return spent{}, ctx.Err()
	}
	after, err := v.spent()
	return after.since(before), err
}

func costSamples(name string, round int, l load) (all []Sample) {
	add := func(figure, unit string, value float64) {
		all = append(all, Sample{Figure: figure, Unit: unit, Round: round, Value: value})
	}
	add("kamailio, "+name, "us/call", l.perCall(l.kamailio))
	for _, role := range slices.Sorted(maps.Keys(l.roles)) {
		add("kamailio, "+name+", "+role, "us/call", l.perCall(l.roles[role]))
	}
	if name == include {
		add("busylamp", "us/call", l.perCall(l.busylamp))
		add("kamailio + busylamp", "us/call", l.perCall(l.kamailio+l.busylamp))
	}
	if name != bare {
		add("publishes, "+name, "1/call", float64(l.standing.Requests())/float64(max(l.Created, 1)))
	}
	add("failed calls, "+name, "", float64(l.Failed))
	add("retransmissions, "+name, "", float64(l.Retransmissions))
	return all
}

func idleSamples(name string, round int, s spent, d time.Duration) (all []Sample) {
	perSecond := func(figure string, t time.Duration) {
		all = append(all, Sample{Figure: figure, Unit: "us/s", Round: round, Value: float64(t) / float64(time.Microsecond) / d.Seconds()})
	}
	perSecond("idle kamailio, "+name, s.kamailio)
	if name == include {
		perSecond("idle busylamp", s.busylamp)
	}
	return all
}
