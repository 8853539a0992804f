package pluginhost

import (
	"time"

	"github.com/busylamp/busylamp"
)

// flips bounds how often a plugin changes how it stands with its system. Each change costs
// the core a walk over everybody, so that a few claims' worth of messages would starve it.
//
// What comes after a change too many waits, rather than that changes are left out: claims
// that follow a reconnection must not be reported before it, since its failure makes earlier
// ones lapse, and one that nobody hears of would leave those unasked who were lost by it.
type flips struct {
	bucket
	last busylamp.ConnectorState
	away time.Duration // spent with the sink, where time makes nothing good: a slow core is no calm plugin
}

func newFlips(t timing, now time.Time) flips {
	return flips{bucket: newBucket(t.flips, flipsAtOnce, now)}
}

// take counts what reports change, and returns how long to wait after them and whether this
// has gone on for longer than limit.
func (f *flips) take(reports []busylamp.SourceReport, now time.Time, limit time.Duration) (wait time.Duration, flood bool) {
	now = now.Add(-f.away)
	for i := range reports {
		if c := reports[i].Connector; c != 0 && c != f.last {
			f.last = c
			wait = f.bucket.take(1, now)
			flood = f.wanting(now) > limit
		}
	}
	return wait, flood
}
