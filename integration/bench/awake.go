package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	register(Measure{
		Name: "awake",
		What: "CPU per call, on cores that never sleep",
		How: "As for goals 1 and 2, while a process of the lowest class (SCHED_IDLE) spins on each core. Waking a core up is then in nobody's " +
			"figures, and no proxy has an advantage of what another process happens to do beside it.",
		Goals: []Goal{
			{What: "cores kept awake: Kamailio, our include over bare", Figure: "awake kamailio, include", Over: "awake kamailio, bare"},
			{What: "cores kept awake: Kamailio with pua_dialoginfo over bare", Figure: "awake kamailio, pua", Over: "awake kamailio, bare"},
			{What: "cores kept awake: Kamailio + busylamp over Kamailio with pua_dialoginfo", Figure: "awake kamailio + busylamp", Over: "awake kamailio, pua"},
		},
		Run: awake,
	})
	registerHelper("spin", spin)
}

func awake(ctx context.Context, e Env) (all []Sample, err error) {
	for core := range runtime.NumCPU() {
		spinning, err := startHelper(ctx, "spin", strconv.Itoa(core))
		if err != nil {
			return nil, err
		}
		defer spinning.stop()
	}
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
	rounds, length := 3, 10*time.Second
	if e.Quick {
		rounds, length = 1, 3*time.Second
	}
	for round := range rounds {
		for i, name := range alternate(variants, round) {
			e.Progress(round*len(variants)+i+1, rounds*len(variants), "%d calls/s at %s, cores kept awake", costRate, name)
			l, err := r.call(ctx, r.variants[name], round+1, costRate, length)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			for _, s := range costSamples(name, round, l) {
				s.Figure = "awake " + s.Figure
				all = append(all, s)
			}
		}
	}
	return all, nil
}

// spin has a core do something whenever nobody else does. It ends with its standard input.
func spin(_ context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("spin: want a core")
	}
	core, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	over := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, stdin())
		close(over)
	}()
	runtime.LockOSThread()
	var on unix.CPUSet
	on.Set(core)
	if err := unix.SchedSetaffinity(0, &on); err != nil {
		return fmt.Errorf("spin on core %d: %w", core, err)
	}
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_IDLE}, 0); err != nil {
		return fmt.Errorf("spin: SCHED_IDLE: %w", err)
	}
	fmt.Println("spinning")
	for {
		select {
		case <-over:
			return nil
		default:
			for n := 0; n < 1e5; n++ { // work, and no system call
			}
		}
	}
}
