// Package plugin is what the author of a presence source imports. A source is a program
// that knows of people's presence: it implements [Source] and calls [Serve]. AUTHORING.md
// leads from nothing to a running one; the contract on the wire is proto/v1.
package plugin

import (
	"context"
	"time"
)

// Source is what an author writes. The host calls Describe, Configure and Run in this order;
// Run once in a process's life, and Configure perhaps again before it.
type Source interface {
	// Describe says what the source is. It does nothing else.
	Describe() Description
	// Configure takes the source's own section of the configuration, or says what is wrong
	// with it, by [Problem] (several by errors.Join). It dials nothing: `busylamp check`
	// calls it, too.
	Configure(Config) error
	// Run works until ctx ends, and returns nil then, within a second. An error ends the
	// process, which the host starts again after a while: what befalls the source's system
	// is no error but a [Connector].
	Run(ctx context.Context, host Host) error
}

// Endpoints is implemented by a source that can subscribe by several accounts: what the
// first is refused is tried by the next. It is asked after Configure.
type Endpoints interface {
	// Endpoints returns the accounts' names, the preferred one first.
	Endpoints() []string
}

// Host is what a source speaks to while it runs. Its methods may be called from anywhere;
// those that say something wait while the host is busy, and do nothing once Run's ctx ended.
type Host interface {
	// Requests brings whom to watch. The channel is closed when Run's ctx ends.
	Requests() <-chan Request
	// Claim says what is known of presentities: all of it, each time.
	Claim(...Claim)
	// Subscription says how the watching of presentities goes.
	Subscription(...Subscription)
	// Connector says how the source stands with its system.
	Connector(Connector)
}

// Description is what a source says of itself. Messages in proto/v1 explain its fields.
type Description struct {
	Name, Version, Summary string
	Serves                 []string // regular expressions for the whole URI; none: any presentity
	Keys                   []Key
	Batch                  int  // presentities in a Request at most, 0 for 1
	Unasked                bool // it speaks of whomever it likes
}

// Key is a key of a source's section of the configuration.
type Key struct {
	Name, Doc, Default string
	Required, Secret   bool
}

// Request is what the host wants watched from now on, or no more.
type Request struct {
	Watch   []Target
	Unwatch []string // presentities
}

// Target is a presentity to be watched; if it is already, it is to be asked for anew.
type Target struct {
	Presentity string // canonical: sip:user@host, or tel:+number
	Endpoint   int    // the place in what Endpoints returned
	UPN        string // user principal name, "" if the directory has none
}

// Availability is how far somebody can be reached.
type Availability uint8

// The availabilities.
const (
	Unknown Availability = iota // withdraws the claim
	Offline
	Available
	Away
	Busy
	DoNotDisturb
)

// Activities that the host knows, by RFC 4480's names where it has one.
const (
	OnThePhone = "on-the-phone"
	Meeting    = "meeting"
	Presenting = "presenting"
	Ringing    = "ringing"
)

// Claim is all that a source says of a presentity. It replaces what the source said before.
type Claim struct {
	Presentity   string
	Availability Availability
	Activity     string // one that the host does not know is shown to people alone
	Note, Device string // for people
	OutOfOffice  bool
	Forward      Forward
	ForwardedTo  string
	Since        time.Time // when the state began; zero: now
	// Until is when the claim lapses unless it is stated again; zero: when the subscription
	// ends, and after a day at the latest.
	Until     time.Time
	Sequence  uint64 // of two claims about a presentity the lower is stale; 0: not numbered
	Telephony bool   // of a phone, and not of what a person chose
}

// Forward is where somebody's calls go instead.
type Forward uint8

// The ways to forward.
const (
	NotForwarded Forward = iota
	ToVoiceMail
	ToNumber
)

// Subscription is how the watching of a presentity goes.
type Subscription struct {
	Presentity string
	State      SubscriptionState
	Reason     string        // for people
	RetryAfter time.Duration // not to be asked again before; 0: the host's own delay
}

// SubscriptionState is a subscription's state.
type SubscriptionState uint8

// The states of a subscription.
const (
	Requesting SubscriptionState = iota + 1 // asked, not answered
	Active
	Terminated // it was active; the host asks again
	AccessDenied
	NotFound
	Failed
)

// Connector is how a source stands with its system.
type Connector struct {
	State  ConnectorState
	Reason string // for people
}

// ConnectorState is a connector's state.
type ConnectorState uint8

// The states of a connector.
const (
	Up ConnectorState = iota + 1
	NotConfigured
	Disabled
	Forbidden
	ConnectionError
	CredentialsNotFound // it works all the same
)

// Problem is an error that names a key of the source's section.
type Problem struct {
	Key  string // with dots for sections within
	Text string // what is wrong with the value, and how to mend it; never a secret
}

// Error returns "key: text".
func (p Problem) Error() string { return p.Key + ": " + p.Text }

// Config is a source's section of the configuration.
type Config struct {
	// Name is what the configuration calls this source.
	Name string
	// OwnTuples are the ids of the PIDF tuples that the host itself publishes. What a server
	// shows under them is the host's own word, and must not come back as a claim.
	OwnTuples []string

	json []byte
	keys []Key // as the source has described them
}
