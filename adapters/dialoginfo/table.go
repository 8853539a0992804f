package dialoginfo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrGap says that a partial document does not follow on what is known, so that something has
// been missed. A fresh subscription brings a full document (RFC 4235 section 4.3).
var ErrGap = errors.New("a dialog-info document is missing before this one")

// ErrTooMany says that a user would have more than [MaxDialogs] dialogs.
var ErrTooMany = fmt.Errorf("more than %d dialogs of one user", MaxDialogs)

// Table is what is known of one user's dialogs: the state that documents make together (RFC
// 4235 section 4.3). Its zero value knows nothing and waits for a full document.
type Table struct {
	synced  bool // a full document has come, and nothing is missing since
	version uint32
	// By key. A full document may have several dialogs of one id, each of another publisher.
	dialogs map[string][]Dialog
}

// Apply takes the next document of a subscription, in the order of the NOTIFYs' CSeq (RFC 3261
// section 12.2.2), which is the caller's to see to.
//
// A full document replaces everything, whatever its version: the CSeq has shown that it is
// the newest, and there are notifiers that never count, or begin anew when they restart. A
// partial one must have the version that follows the last one's. Then its dialogs take the
// place of those with the same ids, and those that are terminated go. One that came before
// and changes nothing is no error. Any other, and one before the first full one, is
// ErrGap: what is known stays as it is until a full document comes.
func (t *Table) Apply(d Document) error {
	if !d.Full {
		return t.update(d)
	}
	dialogs := make(map[string][]Dialog)
	for _, one := range d.Dialogs {
		if one.State != Terminated {
			k := key(one)
			dialogs[k] = append(dialogs[k], t.advanced(one))
		}
	}
	t.synced, t.version, t.dialogs = true, d.Version, dialogs
	return nil
}

func (t *Table) update(d Document) error {
	if t.synced && d.Version == t.version && t.knows(d) {
		return nil
	}
	if !t.synced || d.Version != t.version+1 {
		t.synced = false
		return ErrGap
	}
	for _, one := range d.Dialogs {
		k := key(one)
		switch _, known := t.dialogs[k]; {
		case one.State == Terminated:
			delete(t.dialogs, k)
		case !known && len(t.dialogs) >= MaxDialogs:
			t.synced = false
			return ErrTooMany
		default:
			t.dialogs[k] = []Dialog{t.advanced(one)}
		}
	}
	t.version = d.Version
	return nil
}

// advanced keeps a dialog from going back: one that was confirmed ends, and rings no more (RFC
// 4235 section 3.7.1). Kamailio's workers overtake each other, so that "early" may be told last.
func (t *Table) advanced(d Dialog) Dialog {
	confirmed := func(known Dialog) bool { return known.CallID == d.CallID && known.State == Confirmed }
	if d.CallID != "" && d.State < Confirmed && slices.ContainsFunc(t.dialogs[key(d)], confirmed) {
		d.State = Confirmed
	}
	return d
}

// knows tells whether a document changes nothing.
func (t *Table) knows(d Document) bool {
	for _, one := range d.Dialogs {
		known := t.dialogs[key(one)]
		if one.State == Terminated && len(known) > 0 || one.State != Terminated && !slices.Contains(known, one) {
			return false
		}
	}
	return true
}

// key is what a dialog is known by: its id, or else what makes a dialog (RFC 3261 section 12).
// Those that have neither are one to a partial document: somebody says "a call", and no more.
func key(d Dialog) string {
	if d.ID != "" {
		return "id " + d.ID
	}
	return strings.Join([]string{d.CallID, d.LocalTag, d.RemoteTag}, " ")
}

// Renew says that a fresh subscription is made: the next document has to be a full one. What
// is known stays until it comes.
func (t *Table) Renew() { t.synced = false }

// Count returns how many dialogs are confirmed, and how many are on their way to it.
func (t *Table) Count() (confirmed, early int) {
	for _, list := range t.dialogs {
		for _, d := range list {
			switch d.State {
			case Confirmed:
				confirmed++
			case Trying, Proceeding, Early:
				early++
			}
		}
	}
	return confirmed, early
}

// Busy tells whether the user is in a call. One that is on hold is one (Asterisk's lamps, too,
// stay lit).
func (t *Table) Busy() bool { confirmed, _ := t.Count(); return confirmed > 0 }

// Ringing tells whether calls are on their way, to him or from him, and none is answered.
func (t *Table) Ringing() bool { confirmed, early := t.Count(); return confirmed == 0 && early > 0 }

// Dialogs returns the dialogs that are not over, those that have come further first.
func (t *Table) Dialogs() []Dialog {
	var all []Dialog
	for _, list := range t.dialogs {
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b Dialog) int {
		if a.State != b.State {
			return int(b.State) - int(a.State)
		}
		return strings.Compare(a.ID+a.CallID+a.LocalTag, b.ID+b.CallID+b.LocalTag)
	})
	return all
}
