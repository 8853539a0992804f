package busylamp

import "fmt"

// Work is what the engine wants done since it was last asked.
type Work struct {
	Publish  []PublishWork
	Lists    []ListWork
	Details  []DetailWork
	Watches  []WatchWork
	Store    []StoreOp // in their order; times are the engine's
	Changes  []Change
	Statuses []StatusChange
	Notes    []Note
}

// PublishWork is a request for the publisher with an index in Config.Publishers.
type PublishWork struct {
	Publisher int
	Request   Request
}

// ListWork asks for a proxy's list, which ends in [Engine.Listed] or [Engine.ResyncFailed].
type ListWork struct {
	Proxy int // its index in Config.Proxies
	ID    uint64
	Why   string
}

// DetailWork asks for the details of listed dialogs, which end in [Engine.Resynced] or
// [Engine.ResyncFailed].
type DetailWork struct {
	Proxy  int
	ID     uint64
	Wanted []Listed
}

// Change is a presentity's new presence.
type Change struct {
	Presentity Presentity
	Old, New   Presence
	why        reason
}

// Why says what brought the change about.
func (c Change) Why() string { return c.why.String() }

// reason is why a presence changed, in parts: most are never read.
type reason struct {
	what, proxy string
	dialog      DialogID
	callID      string
}

func (r reason) String() string {
	if r.proxy == "" {
		return r.what
	}
	return fmt.Sprintf("%s (proxy %s, dialog %s, Call-ID %q)", r.what, r.proxy, r.dialog, r.callID)
}

// Take returns the work that came up and forgets it. Its slices are the caller's until the next
// Take, and used again from then on.
func (e *Engine) Take() Work {
	w := e.out
	e.out, e.taken = e.taken.emptied(), w
	return w
}

// keptWork is how much room is kept for the next work: what a lot came up at once gives back.
const keptWork = 4096

func (w Work) emptied() Work {
	return Work{Publish: emptied(w.Publish), Lists: emptied(w.Lists), Details: emptied(w.Details), Watches: emptied(w.Watches),
		Store: emptied(w.Store), Changes: emptied(w.Changes), Statuses: emptied(w.Statuses), Notes: emptied(w.Notes)}
}

func emptied[T any](s []T) []T {
	if cap(s) > keptWork {
		return nil
	}
	clear(s)
	return s[:0]
}
