package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

func init() {
	register(Measure{
		Name: "latency",
		What: "200 OK to PUBLISH on the wire",
		How: "The same proxies; sipp places 50 and 400 calls/s, for 5 s at one publisher and then at the other. For each " +
			"of a call's two users: from the moment at which the phone's 200 OK reaches the proxy's socket to the moment at " +
			"which the first PUBLISH that says \"in a call\" (on-the-phone; state confirmed) reaches the presence server's. " +
			"Both times are the kernel's own (SO_TIMESTAMPNS), of one clock: that of the 200 by a packet socket on the loopback " +
			"interface whose filter lets nothing else through, that of the PUBLISH at the responder's socket. A user for whom none " +
			"came counts as 10 s.",
		Goals: []Goal{
			{Number: 4, What: "200 OK to PUBLISH, busylamp, 50 calls/s, p50", Figure: "p50, include, 50/s", AtMost: 1},
			{Number: 4, What: "200 OK to PUBLISH, p99 at 400 calls/s, busylamp over pua_dialoginfo", Figure: "p99, include, 400/s", Over: "p99, pua, 400/s", AtMost: 1},
			{What: "busylamp, 50 calls/s, p99", Figure: "p99, include, 50/s"},
			{What: "busylamp, 400 calls/s, p50", Figure: "p50, include, 400/s"},
			{What: "pua_dialoginfo, 50 calls/s, p50", Figure: "p50, pua, 50/s"},
			{What: "pua_dialoginfo, 50 calls/s, p99", Figure: "p99, pua, 50/s"},
			{What: "pua_dialoginfo, 400 calls/s, p50", Figure: "p50, pua, 400/s"},
		},
		Run: latency,
	})
}

func latency(ctx context.Context, e Env) (all []Sample, err error) {
	variants := []string{include, pua}
	o := e.rig(variants...)
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
	length := 5 * time.Second
	if e.Quick {
		length = 3 * time.Second
	}
	rates := []int{50, 400}
	steps, step := e.Rounds()*len(rates)*len(variants), 0
	for round := range e.Rounds() {
		for _, rate := range rates {
			for _, name := range alternate(variants, round) {
				step++
				e.Progress(step, steps, "%d calls/s at %s", rate, name)
				l, err := r.call(ctx, r.variants[name], round+1, rate, length)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
				if n := len(l.standing.Times); n < l.Created {
					return nil, fmt.Errorf("%s: of %d calls, %d users were seen to be published: does the tap see the phones?", name, l.Created, n)
				}
				times := l.standing.times()
				all = append(all,
					Sample{Figure: fmt.Sprintf("p50, %s, %d/s", name, rate), Unit: "ms", Round: round, Value: percentile(times, 0.5)},
					Sample{Figure: fmt.Sprintf("p99, %s, %d/s", name, rate), Unit: "ms", Round: round, Value: percentile(times, 0.99)},
					Sample{Figure: fmt.Sprintf("never published, %s, %d/s", name, rate), Round: round, Value: float64(l.standing.None)})
			}
		}
	}
	return all, nil
}

// times returns the times of all users in order; who was never published had to wait for 10 s.
func (s Standing) times() []time.Duration {
	return append(slices.Clone(s.Times), slices.Repeat([]time.Duration{10 * time.Second}, s.None)...)
}

// percentile returns a time in milliseconds of times in order.
func percentile(times []time.Duration, q float64) float64 {
	if len(times) == 0 {
		return 0
	}
	return float64(times[int(q*float64(len(times)-1))]) / float64(time.Millisecond)
}
