package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// profile has busylamp write a CPU profile of some seconds of load, in a run of its own: taking
// it costs, and would be in the figures. It goes to e.Dir, from where [publish] takes it.
func profile(ctx context.Context, e Env, name string, rate int, length time.Duration) (err error) {
	o := e.rig(include)
	o.env = []string{"BUSYLAMP_CPUPROFILE=" + filepath.Join(e.Dir, name+".pprof")}
	r, err := newRig(ctx, o)
	if err != nil {
		return fmt.Errorf("for a profile: %w", err)
	}
	defer func() {
		if closed := r.Close(); err == nil {
			err = closed
		}
	}()
	v := r.variants[include]
	if _, err := r.call(ctx, v, 1, rate, length); err != nil {
		return err
	}
	_, _, err = v.sidecar.Terminate(10 * time.Second) // it is written at its end
	return err
}
