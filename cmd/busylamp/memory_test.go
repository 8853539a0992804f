package main

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"
)

func TestGrowth(t *testing.T) {
	for live, want := range map[uint64]int{0: 800, 4 << 20: 800, 16 << 20: 200, 32 << 20: 100, 64 << 20: 50, 1 << 30: 50, 1 << 40: 50} {
		if got := growth(live); got != want {
			t.Errorf("%d bytes alive: %d %%, want %d", live, got, want)
		}
	}
}

// TestMemoryOf: the least of the host's memory and the limits of the control groups.
func TestMemoryOf(t *testing.T) {
	for _, tc := range []struct {
		files map[string]string
		want  int64
	}{
		{nil, 0},
		{map[string]string{"proc/meminfo": "MemTotal:        2048 kB\nMemFree: 1 kB\n"}, 2 << 20},
		{map[string]string{"proc/meminfo": "MemTotal: 2048 kB\n", "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n"}, 2 << 20},
		{map[string]string{"proc/meminfo": "MemTotal: 2048 kB\n", "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "1048576\n"}, 1 << 20},
		{map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "4096\n", "sys/fs/cgroup/a/memory.max": "8192\n"}, 4096},
		{map[string]string{"proc/meminfo": "MemTotal: x kB\n", "proc/self/cgroup": "1:cpu:/a\n"}, 0},
	} {
		root := t.TempDir()
		for name, text := range tc.files {
			name = filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := memoryOf(root); got != tc.want {
			t.Errorf("%v: %d bytes, want %d", tc.files, got, tc.want)
		}
	}
}

// TestTuneMemory: what the environment says counts, and else each collection sets the next.
func TestTuneMemory(t *testing.T) {
	percent, limit := debug.SetGCPercent(123), debug.SetMemoryLimit(-1)
	defer func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) }()
	tuneMemory([]string{"GOGC=123", "GOMEMLIMIT=1GiB"})
	if got := debug.SetGCPercent(123); got != 123 {
		t.Errorf("GOGC was set: %d %%", got)
	}
	if got := debug.SetMemoryLimit(-1); got != limit {
		t.Errorf("GOMEMLIMIT was set: %d bytes", got)
	}
	tuner := &collectorTuner{}
	keep := make([]byte, 48<<20)
	runtime.GC()
	tuner.adjust()
	if got := debug.SetGCPercent(123); got < leastGrow || got > 67 {
		t.Errorf("with 48 MB alive: %d %%", got)
	}
	runtime.KeepAlive(keep)
}
