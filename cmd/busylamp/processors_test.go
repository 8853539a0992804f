package main

import (
	"context"
	"runtime"
	"testing"
	"time"
)

// TestProcessors: one is used until it is busy, and given back when there has been little to do
// for a while. A disk that is slow to sync has two at least.
func TestProcessors(t *testing.T) {
	const fast, slow = time.Millisecond, 5 * time.Millisecond
	p := processors{now: 1, most: 3}
	for i, step := range []struct {
		used  float64
		sync  time.Duration
		times int
		want  int
	}{
		{0.1, 0, 20, 1}, {0.7, 0, 20, 1}, {0.8, 0, 1, 2}, {1.4, 0, 20, 2}, {1.6, 0, 1, 3}, {3, 0, 5, 3},
		{0.75, 0, 9, 3}, {0.9, 0, 1, 3}, {0.75, 0, 10, 2}, {0.3, 0, 9, 2}, {0.3, 0, 1, 1}, {0, 0, 100, 1},
		{0.1, fast, 20, 1}, {0.1, slow, 1, 2}, {0.1, slow, 100, 2}, {0.1, fast, 10, 1}, {1.8, slow, 2, 3}, {0.1, slow, 100, 2},
	} {
		got := 0
		for range step.times {
			got = p.next(step.used, step.sync)
		}
		if got != step.want {
			t.Fatalf("step %d: %d processors, want %d", i, got, step.want)
		}
	}
}

func TestTuneProcessors(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tuneProcessors(ctx, nil)
	if n := runtime.GOMAXPROCS(0); n != allProcessors {
		t.Errorf("%d processors afterwards, %d before", n, allProcessors)
	}
	tuneProcessors(t.Context(), []string{"GOMAXPROCS=2"}) // returns at once
}
