// Package busylamp turns calls into presence.
//
// Read the files in the order in which data flows: an adapter states [CallEvent]s
// (event.go), calls are kept per proxy (call.go) and compared with the proxy's own list
// (resync.go), each person's calls become a [Claim] (claim.go), claims fold into a
// [Presence] (presence.go), and every publisher converges what its server knows to what
// is desired (publish.go). engine.go holds it together, loop.go runs it, port.go has the
// interfaces that adapters implement.
//
// The package is pure: no I/O, no clock of its own, the standard library only.
package busylamp

import (
	"fmt"
	"time"
)

// DialogID names a dialog within one life of one proxy: Kamailio's h_entry and h_id.
// The Call-ID would not do, for a caller chooses it.
type DialogID struct {
	Entry, ID uint32
}

// String returns "entry:id", as Kamailio writes it.
func (d DialogID) String() string { return fmt.Sprintf("%d:%d", d.Entry, d.ID) }

// Stage is how far a dialog has come. It only ever advances, whatever arrives when.
type Stage uint8

// The stages of a dialog (RFC 3261 section 12; Ended is Kamailio's state 5).
const (
	Early Stage = iota + 1
	Confirmed
	Ended
)

var stageNames = [...]string{"unknown", "early", "confirmed", "ended"}

func (s Stage) String() string {
	if int(s) < len(stageNames) {
		return stageNames[s]
	}
	return stageNames[0]
}

// CallEvent states that a dialog has reached at least a stage. Events of one dialog may
// come in any order and any number of times; the result is the same. Its strings may be parts
// of a larger one: what the engine keeps of them, it copies.
type CallEvent struct {
	Dialog DialogID
	Stage  Stage
	// Seq is the proxy's counter when the event was raised. It breaks ties between
	// events of one stage (32-bit serial arithmetic, RFC 1982) and orders nothing else.
	Seq uint32
	// Caller and Callee are URIs as the proxy states them; "" and "none" mean nobody.
	// They are empty when Stage is Ended.
	Caller, Callee string
	// CallID is for people to read and may be cut short.
	CallID string
	// Lapses is when the proxy itself gives the call up, from now; 0 if it did not say.
	Lapses time.Duration
}

// serialAfter reports whether a comes after b in 32-bit serial arithmetic.
func serialAfter(a, b uint32) bool { return int32(a-b) > 0 }
