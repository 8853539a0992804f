package busylamp

import "time"

// SourceReport is what a source brings: any of its parts, taken in their order.
type SourceReport struct {
	// Up says that the source runs, and watches nobody as yet.
	Up *SourceInfo
	// Connector is how the source stands with its system, if that is told; Reason says why.
	Connector     ConnectorState
	Reason        string
	Subscriptions []SubscriptionReport
	Statements    []Statement
	// Down says why the source runs no more, or cannot be trusted to; "" if it does.
	Down string
}

// SourceConfig is what the engine needs to know of a source. The figures in brackets are
// what contact centres are used to; nothing is filled in here.
type SourceConfig struct {
	Name      string
	Priority  int // of two claims that are equally strong the one of the higher priority wins
	PerSecond int // subscriptions at most in any second [15]; 0: no limit
	// A subscription that failed is tried again after FailedDelay [900 s], which doubles up to
	// MaxFailedDelay [8 h], and no more when it has failed MaxFailures [3] times and once
	// more; 0: it is never given up.
	FailedDelay, MaxFailedDelay time.Duration
	MaxFailures                 int
	// Grace is how long claims outlive what they are known by: the source that runs, its
	// connection, a subscription [30 s].
	Grace time.Duration
	// Reads are the publishers, by name, whose server the source reads. What it says is not
	// published there, and what is published there is not taken for its word.
	Reads []string
}

// SourceInfo is what the core needs to know of a source that runs.
type SourceInfo struct {
	Batch     int  // presentities in one [WatchWork] at most; 0 is like 1
	Endpoints int  // what it can subscribe by; 0 is like 1
	Unasked   bool // it speaks of whomever it likes, and need not be asked
	// Serves tells whom the source can speak for at all; nil: anybody.
	Serves func(Presentity) bool
}

// ConnectorState is how a source stands with its system.
type ConnectorState uint8

// The states of a connector.
const (
	ConnectorUp ConnectorState = iota + 1
	ServerNotConfigured
	Disabled
	Forbidden
	ConnectionError
	CredentialsNotFound // it works all the same
)

var connectorNames = [...]string{"starting", "up and running", "server not configured", "disabled",
	"forbidden", "connection error", "credentials not found"}

func (s ConnectorState) String() string { return connectorNames[s] }

// Works tells whether the source can be asked to watch: it has not said that it cannot.
func (s ConnectorState) Works() bool { return s == 0 || s == ConnectorUp || s == CredentialsNotFound }

// SubscriptionReport is how the watching of one presentity goes.
type SubscriptionReport struct {
	Presentity Presentity
	State      SubscriptionState
	Reason     string        // for people
	RetryAfter time.Duration // not to be asked again before, up to MaxFailedDelay; 0: the engine's own delay
}

// SubscriptionState is how the watching of a presentity by a source goes.
type SubscriptionState uint8

// The states of a subscription. The first two are the engine's own.
const (
	NotRequested SubscriptionState = iota
	Waiting                        // for its turn
	Requesting
	Subscribed
	Terminated
	AccessDenied
	NotFound
	SubscriptionError
)

// Statement is what a source says of a presentity: all of it, each time. A State of Unknown
// withdraws what it said before.
type Statement struct {
	Presentity Presentity
	State      State
	Age        time.Duration // how long it has been so
	// For is how long it holds, from now; 0 until the subscription ends, and for a day at most.
	For       time.Duration
	Sequence  uint64 // of two statements about a presentity the lower is stale; 0: not numbered
	Telephony bool   // of a phone, and not of what a person chose
	Details   Details
}

// Details are the parts of a claim that do not decide what is published.
type Details struct {
	Activity, Note, Device string // for people
	OutOfOffice            bool
	Forward                Forward
	ForwardedTo            string
}

// Forward is where somebody's calls go instead.
type Forward uint8

// The ways to forward.
const (
	NotForwarded Forward = iota
	ToVoiceMail
	ToNumber
)

// WatchWork asks the source with an index in Config.Sources to watch presentities, and to
// watch others no more. It is reported by [Engine.Report].
type WatchWork struct {
	Source  int
	Watch   []Target
	Unwatch []Presentity
}

// Target is a presentity to be watched; one that is watched already is asked for anew.
type Target struct {
	Presentity Presentity
	Endpoint   int    // the place among those that the source can subscribe by
	UPN        string // user principal name, "" if the directory has none
}
