package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"
)

// profile takes a CPU profile of busylamp under some seconds of load, in a run of its own: taking
// it costs, and would be in the figures. It goes to e.Dir, from where [publish] takes it.
func profile(ctx context.Context, e Env, name string, rate int, length time.Duration) (err error) {
	r, err := newRig(ctx, e.rig(include))
	if err != nil {
		return fmt.Errorf("for a profile: %w", err)
	}
	defer func() {
		if closed := r.Close(); err == nil {
			err = closed
		}
	}()
	v := r.variants[include]
	if _, err := r.call(ctx, v, 1, rate, 2*time.Second); err != nil {
		return err
	}
	return whileProfiled(ctx, v.sidecar.URL, e.profile(name), length, func() error {
		_, err := r.call(ctx, v, 2, rate, length)
		return err
	})
}

// profile is the file of a profile, which [publish] finds.
func (e Env) profile(name string) string { return filepath.Join(e.Dir, name+".pprof") }

// profiled runs f and writes a CPU profile of this process meanwhile. Rounds that count are
// taken without: profiling costs.
func (e Env) profiled(name string, f func() error) (err error) {
	to, err := os.Create(e.profile(name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if err := pprof.StartCPUProfile(to); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return f()
}

// whileProfiled runs f while a CPU profile of a sidecar is taken for some seconds.
func whileProfiled(ctx context.Context, admin, file string, length time.Duration, f func() error) error {
	taken := make(chan error, 1)
	go func() {
		taken <- fetchProfile(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", admin, int(length.Seconds())), file)
	}()
	err := f()
	return errors.Join(err, <-taken)
}

// fetchProfile writes a profile of a sidecar to a file.
func fetchProfile(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("profile: %s: %s", url, res.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, res.Body); err != nil {
		_ = f.Close()
		return fmt.Errorf("profile: %w", err)
	}
	return f.Close()
}
