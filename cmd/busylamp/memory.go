package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"strconv"
	"strings"
	"sync"
)

// Memory is the proxy's first, and its time too. Go's own rule, to collect when the heap has
// doubled, collects a small heap many times a second and lets a large one grow to twice its
// size. So a small one may grow by headroom, and a large one by half. GOGC and GOMEMLIMIT, where
// they are set, count instead.
const (
	headroom   = 32 << 20 // bytes
	mostGrowth = 800      // percent
	leastGrow  = 50       // percent
)

var tuned sync.Once

// tuneMemory sets how much garbage is left lying about, and how much memory is used at most: half
// of what this host, or the control group, has. What is alive may be more than that; it is then
// collected harder, but goes on.
func tuneMemory(environ []string) {
	isSet := func(name string) bool {
		for _, kv := range environ {
			if strings.HasPrefix(kv, name+"=") {
				return true
			}
		}
		return false
	}
	if !isSet("GOMEMLIMIT") {
		if most := memoryOf("/"); most > 0 {
			debug.SetMemoryLimit(most / 2)
		}
	}
	if !isSet("GOGC") {
		t := &collectorTuner{}
		t.adjust()
		t.arm()
	}
}

// collectorTuner sets GOGC anew after each collection, by what that has left alive.
type collectorTuner struct {
	sample  [1]runtimemetrics.Sample
	percent int
}

// arm has the next collection call adjust, and so on.
func (t *collectorTuner) arm() {
	gone := new([16]byte)
	runtime.SetFinalizer(gone, func(*[16]byte) {
		t.adjust()
		t.arm()
	})
}

func (t *collectorTuner) adjust() {
	t.sample[0].Name = "/gc/heap/live:bytes"
	runtimemetrics.Read(t.sample[:])
	if percent := growth(t.sample[0].Value.Uint64()); percent != t.percent {
		t.percent = percent
		debug.SetGCPercent(percent)
	}
}

// growth is by how many percent a heap may grow of which so many bytes are alive.
func growth(live uint64) int {
	return int(min(max(headroom*100/max(live, 1), leastGrow), mostGrowth))
}

// memoryOf returns how many bytes of memory there are for this process: the host's, or what its
// control group (version 2) or one above it may have; 0 if that cannot be told. root is where the
// file systems are.
func memoryOf(root string) int64 {
	most := int64(0)
	text, _ := os.ReadFile(filepath.Join(root, "proc/meminfo")) // none: most stays 0
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemTotal:" {
			kB, _ := strconv.ParseInt(f[1], 10, 40)
			most = kB << 10
		}
	}
	group, _ := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	_, path, ok := strings.Cut(string(bytes.TrimSpace(group)), "0::")
	for ok && path != "" {
		text, _ := os.ReadFile(filepath.Join(root, "sys/fs/cgroup", path, "memory.max"))
		if n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64); err == nil && n > 0 && (most == 0 || n < most) {
			most = n
		}
		if path == "/" || path == "." {
			break
		}
		path = filepath.Dir(path)
	}
	return most
}
