package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
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
	taken := make(chan error, 1)
	go func() { taken <- fetchProfile(ctx, v.sidecar.URL, filepath.Join(e.Dir, name+".pprof"), length) }()
	_, err = r.call(ctx, v, 2, rate, length)
	if failed := <-taken; failed != nil {
		return failed
	}
	return err
}

// fetchProfile writes a CPU profile of the next seconds to a file.
func fetchProfile(ctx context.Context, admin, file string, length time.Duration) error {
	url := fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", admin, int(length.Seconds()))
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
