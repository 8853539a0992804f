package main

import (
	"context"
	"fmt"
	"time"
)

func init() {
	register(Measure{
		Name: "rush",
		What: "1,000 calls a second",
		How: "sipp places 1,000 calls/s for 60 s, on the same two cores as everything else, at each of the three proxies in " +
			"turn, started afresh. A failed call is one that sipp counts as failed: its 200 to the INVITE or to the BYE had not come " +
			"within 20 s, repetitions included. \"Wrong\" are publications that say \"in a call\" at the responder although no call is up, " +
			"10 s after the last one's end.",
		Goals: []Goal{
			{Number: 3, What: "failed calls of 60,000, busylamp", Figure: "failed calls, include", Exactly: true},
			{Number: 3, What: "users wrong 10 s after the end, busylamp", Figure: "wrong, include", Exactly: true},
			{Number: 3, What: "users who were never published, busylamp", Figure: "never lit, include", Exactly: true},
			{Number: 3, What: "(failed calls, bare: the load itself)", Figure: "failed calls, bare"},
			{Number: 3, What: "(failed calls, pua_dialoginfo)", Figure: "failed calls, pua"},
			{Number: 3, What: "(users wrong 10 s after the end, pua_dialoginfo)", Figure: "wrong, pua"},
			{What: "seconds until no user was wrong, busylamp", Figure: "clear after, include"},
			{What: "users who were never published, pua_dialoginfo", Figure: "never lit, pua"},
			{What: "retransmissions by sipp, bare", Figure: "retransmissions, bare"},
			{What: "retransmissions by sipp, busylamp", Figure: "retransmissions, include"},
			{What: "retransmissions by sipp, pua_dialoginfo", Figure: "retransmissions, pua"},
			{What: "Kamailio CPU per call at 1,000 calls/s, bare", Figure: "kamailio, bare"},
			{What: "Kamailio CPU per call at 1,000 calls/s, with the include", Figure: "kamailio, include"},
			{What: "busylamp CPU per call at 1,000 calls/s", Figure: "busylamp"},
			{What: "Kamailio CPU per call at 1,000 calls/s, pua_dialoginfo", Figure: "kamailio, pua"},
		},
		Run: rush,
	})
}

// rushRate is the calls a second of goal 3.
const rushRate = 1000

func rush(ctx context.Context, e Env) (all []Sample, err error) {
	length := 60 * time.Second
	if e.Quick {
		length = 5 * time.Second
	}
	variants := []string{bare, include, pua}
	for i, name := range variants {
		e.Progress(i+1, len(variants), "%d calls/s for %v at %s", rushRate, length, name)
		samples, err := rushAt(ctx, e, name, length)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, samples...)
	}
	return all, nil
}

// rushAt takes the figures of one variant.
func rushAt(ctx context.Context, e Env, name string, length time.Duration) (all []Sample, err error) {
	r, err := newRig(ctx, e.rig(name))
	if err != nil {
		return nil, err
	}
	defer func() {
		if closed := r.Close(); err == nil {
			err = closed
		}
	}()
	v := r.variants[name]
	// What is not to be counted: the first calls make Kamailio's processes map their memory.
	if _, err := r.call(ctx, v, 9, rushRate/5, 2*time.Second); err != nil {
		return nil, err
	}
	l, err := r.call(ctx, v, 1, rushRate, length)
	if err != nil {
		return nil, err
	}
	add := func(figure, unit string, value float64) {
		all = append(all, Sample{Figure: figure + ", " + name, Unit: unit, Value: value})
	}
	add("failed calls", "", float64(l.Failed))
	add("retransmissions", "", float64(l.Retransmissions))
	add("kamailio", "us/call", l.perCall(l.kamailio))
	if name == include {
		all = append(all, Sample{Figure: "busylamp", Unit: "us/call", Value: l.perCall(l.busylamp)})
	}
	if v.server == nil {
		return all, nil
	}
	standing, took, err := clear10(ctx, v.server)
	if err != nil {
		return nil, err
	}
	add("wrong", "", float64(standing.Lit))
	add("clear after", "s", took.Seconds())
	add("never lit", "", float64(max(2*l.Created-standing.Users, 0)))
	add("publishes", "1/call", float64(standing.Requests())/float64(max(l.Created, 1)))
	return all, nil
}

// clear10 waits until nobody is lit at a responder, for 10 s at most, and returns how it stands
// then.
func clear10(ctx context.Context, server *Responder) (Standing, time.Duration, error) {
	began := time.Now()
	for {
		s, err := server.Report()
		took := time.Since(began)
		if err != nil || s.Lit == 0 || took > 10*time.Second {
			return s, took, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return s, took, ctx.Err()
		}
	}
}
