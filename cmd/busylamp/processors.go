package main

import (
	"context"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/busylamp/busylamp/adapters/store"
)

// A sidecar does little at a time, many times a second: on several processors most of what it
// costs would be threads that wake each other. So it uses one, which leaves the others to the
// proxy, and takes more when one is not enough. A disk that is slow to sync counts as well: Go
// leaves the processor to a system call for up to 10 ms before it finds that it blocks, and with
// one nobody is told of anything meanwhile. GOMAXPROCS, where it is set, counts instead.
const (
	processorsEvery = time.Second
	busyFrom        = 0.75 // of its processors: one more
	idleBelow       = 0.40 // of what it would have with one less, for idleFor times: one less
	idleFor         = 10
	slowDisk        = 2 * time.Millisecond // that a sync lasts: at least two
)

// processors is how many are used, by how busy they were.
type processors struct {
	now, most int
	quiet     int // times in a row
}

// next takes how many processors' time was used of late, and how long the disk took to
// sync, and returns how many to use.
func (p *processors) next(used float64, sync time.Duration) int {
	slow := sync > slowDisk
	switch {
	case (used > busyFrom*float64(p.now) || slow && p.now == 1) && p.now < p.most:
		p.now, p.quiet = p.now+1, 0
	case p.now > 1 && used < idleBelow*float64(p.now-1) && (!slow || p.now > 2):
		if p.quiet++; p.quiet == idleFor {
			p.now, p.quiet = p.now-1, 0
		}
	default:
		p.quiet = 0
	}
	return p.now
}

// allProcessors is what there are at the start.
var allProcessors = runtime.GOMAXPROCS(0)

// tuneProcessors sets GOMAXPROCS until ctx ends, and then gives everything back.
func tuneProcessors(ctx context.Context, environ []string) {
	for _, kv := range environ {
		if strings.HasPrefix(kv, "GOMAXPROCS=") {
			return
		}
	}
	runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(allProcessors)
	p := processors{now: 1, most: allProcessors}
	tick := time.NewTicker(processorsEvery)
	defer tick.Stop()
	last, at := cpuTime(), time.Now()
	syncs, syncTime := store.Syncs()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		cpu, now := cpuTime(), time.Now()
		n, took := store.Syncs()
		before := p.now
		if n := p.next((cpu-last).Seconds()/now.Sub(at).Seconds(), (took-syncTime)/time.Duration(max(n-syncs, 1))); n != before {
			runtime.GOMAXPROCS(n)
		}
		last, at, syncs, syncTime = cpu, now, n, took
	}
}

// cpuTime is what this process has had.
func cpuTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // fails for a bad pointer alone
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
