package rlmi

import "errors"

// ErrGap says that a partial document does not follow on the one before, so that something
// has been missed. A fresh subscription brings a full one (RFC 4662 section 5.2).
var ErrGap = errors.New("a resource list document is missing before this one")

// Order tells whether a subscription's documents follow on each other. Its zero value waits
// for a full document.
type Order struct {
	synced  bool
	version uint32
}

// Next takes the next document, in the order of the NOTIFYs' CSeq. A full one may have any
// version, a partial one that which follows the last; else it is ErrGap, until a full one comes.
func (o *Order) Next(l List) error {
	if !l.Full && (!o.synced || l.Version != o.version+1) {
		o.synced = false
		return ErrGap
	}
	o.synced, o.version = true, l.Version
	return nil
}
