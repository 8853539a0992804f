package pluginhost

import "time"

// What a plugin can ask of the host is bounded by these.
const (
	maxBinary    = 1 << 30 // bytes of a plugin's file
	maxMessage   = 1 << 20 // bytes of one gRPC message
	maxHeaders   = 64 << 10
	maxHandshake = 16 << 10 // bytes of the line that a plugin greets with
	maxWaiting   = 65_536   // presentities that wait to be watched or unwatched
	maxAsked     = 500      // presentities in one message to a plugin
	maxStated    = 256      // statements in one report to the core
	flipsAtOnce  = 3        // changes of the connector: it comes up, fails, and is back
	maxBatch     = 1000
	maxEndpoints = 16
	maxServes    = 100
	maxPattern   = 512 // bytes of an expression of serves
	maxKeys      = 256
	maxProblems  = 50
	maxText      = 256 // bytes of a text for people
	maxError     = 512 // bytes of what a plugin gives as a reason
	maxLine      = 2 << 10
	maxLapse     = 24 * time.Hour            // until a claim lapses, or a subscription is tried again
	maxAge       = 10 * 365 * 24 * time.Hour // of a state
)

// timing is how patient the host is. Tests are less so.
type timing struct {
	start     time.Duration // from the process's start to its greeting and connection
	describe  time.Duration
	configure time.Duration
	end       time.Duration // from the end of the stream to SIGKILL
	ping      time.Duration // between two pings, and for the answer to one
	misses    int           // unanswered pings in a row that make a process hung
	first     time.Duration // before the first restart; it doubles with each
	most      time.Duration // before any restart
	good      time.Duration // a session as long as this makes good what failed before
	failures  int           // failed starts and sessions in a row, after which a plugin is parked
	rate      float64       // claims and subscriptions (or messages, if these are empty) per second
	burst     float64       // the same at once
	flips     float64       // changes of the connector per second
	flood     time.Duration // above a rate for so long is a fault
	lines     float64       // of log per second
}

func defaultTiming() timing {
	return timing{
		start: 10 * time.Second, describe: 5 * time.Second, configure: 10 * time.Second, end: 2 * time.Second,
		ping: 5 * time.Second, misses: 3,
		first: time.Second, most: time.Minute, good: time.Minute, failures: 10,
		rate: 5000, burst: 50_000, flips: 1, flood: 10 * time.Second,
		lines: 100,
	}
}
