package busylamp

import (
	"context"
	"errors"
	"time"
)

// Directory tells which presentity a URI of a call belongs to.
type Directory interface {
	// Presentity returns who a URI names, and "" for somebody we do not publish for. An
	// error says that the URI cannot name anybody; the call goes on without them.
	Presentity(uri string) (Presentity, error)
	// DisplayName returns the name to show for a presentity, "" if none is known.
	DisplayName(Presentity) string
}

// Proxy is asked for the truth about a SIP proxy's dialogs. Both calls come from one
// goroutine at a time and must end when ctx does.
type Proxy interface {
	// List returns every dialog that is early or confirmed now. An error means that
	// nothing is known: a partial list is never returned.
	List(ctx context.Context) (Listing, error)
	// Details states what is known of some of the listed dialogs, a few at a time, by
	// emit. A dialog that has ended meanwhile is left out.
	Details(ctx context.Context, wanted []Listed, emit func([]CallEvent)) error
}

// Listing is a proxy's answer to [Proxy.List].
type Listing struct {
	// Epoch is the proxy's life that the list is of.
	Epoch string
	Live  []Listed
}

// Listed is one dialog of a [Listing]: enough to know it, too little to tell who talks.
type Listed struct {
	Dialog DialogID
	Stage  Stage
	Lapses time.Duration // when the proxy itself gives the dialog up, from now; 0 if it did not say
}

// Publisher tells one presence server about one presentity (RFC 3903).
type Publisher interface {
	// Publish sends one request and returns how it ended. It returns when ctx ends, and
	// never an earlier request's answer. It is called from many goroutines, but never
	// twice at a time for one presentity.
	Publish(ctx context.Context, r Request) Outcome
}

// Source is a system that knows of people's presence. What it brings goes to [Loop.Report].
type Source interface {
	// Watch hands over whom to watch and whom no more. It comes from one goroutine at a time
	// and must not block: a source that cannot follow is to report itself down, and forgets
	// whom it watched.
	Watch(WatchWork)
}

// Store keeps what servers have, so that the next life of the sidecar can take it over
// even if this one is killed. Its methods come from one goroutine at a time.
type Store interface {
	// Load returns the records of earlier lives that have not expired. Their times are
	// from now on.
	Load(ctx context.Context) ([]Record, error)
	// Commit makes changes durable, all of them or none; when it returns nil, they survive
	// a kill. Times are from now on. [ErrFenced] says that the store is somebody else's
	// now, for good; after any other error the same changes may be committed again.
	Commit(ctx context.Context, ops []StoreOp) error
}

// StoreOp is a change of a [Store].
type StoreOp struct {
	Record Record // its Publisher and Presentity are the key
	Delete bool   // the record; else it is put in the place of an earlier one
}

// ErrFenced is what a [Store] answers when another sidecar has taken it.
var ErrFenced = errors.New("another sidecar has taken the store")

// Kind is one of RFC 3903's four uses of PUBLISH (section 4.1).
type Kind uint8

// The kinds of PUBLISH.
const (
	Initial Kind = iota + 1 // a body, no SIP-If-Match
	Refresh                 // SIP-If-Match, no body
	Modify                  // SIP-If-Match and a body
	Remove                  // SIP-If-Match, Expires 0, no body
)

var kindNames = [...]string{"", "initial", "refresh", "modify", "remove"}

func (k Kind) String() string { return kindNames[k] }

// Request is one PUBLISH to be sent.
type Request struct {
	Kind        Kind
	Presentity  Presentity
	DisplayName string
	State       State         // the body's state; of no meaning for Remove
	Tag         string        // SIP-If-Match; "" for Initial
	Expires     time.Duration // 0 for Remove

	publication *publication
	former      bool // removes what the server may have under a tag that it failed at
}

// Result is what an answer to a PUBLISH means to us.
type Result uint8

// The results of a PUBLISH.
const (
	// Accepted: 2xx. Tag and Expires of the outcome are the server's.
	Accepted Result = iota + 1
	// Gone: 412, the server does not know the entity-tag (RFC 3903 section 4.1.3).
	Gone
	// TooBrief: 423, the server grants no lifetime below the outcome's MinExpires (RFC
	// 3903 section 6, step 4).
	TooBrief
	// Failed: an answer about this presentity that may be different next time (408, 500).
	Failed
	// Unavailable: no answer, or one that stands for the whole server (503).
	Unavailable
	// Refused: an answer that will be the same next time (403, 404, 6xx).
	Refused
)

var resultNames = [...]string{"", "accepted", "gone", "too brief", "failed", "unavailable", "refused"}

func (r Result) String() string { return resultNames[r] }

// Outcome is how a PUBLISH ended.
type Outcome struct {
	Result     Result
	Tag        string        // the new entity-tag (SIP-ETag) of Accepted; "" if the server gave none
	Expires    time.Duration // the server's Expires of Accepted; 0 if it gave none
	MinExpires time.Duration // Min-Expires of TooBrief; 0 if the server gave none
	RetryAfter time.Duration // Retry-After (RFC 3261 section 20.33); 0 if the server gave none
	Code       int           // the SIP status code, 0 when there was no answer
	Reason     string        // for people: the reason phrase or the error
}
