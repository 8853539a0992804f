// Package dialoginfo reads what the dialog event package (RFC 4235) tells of a user's calls,
// and keeps the table of them that a watcher of it has.
package dialoginfo

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/busylamp/busylamp/adapters/pidf/xmltree"
)

// ContentType is the media type of the documents (RFC 4235 section 8.2).
const ContentType = "application/dialog-info+xml"

// MaxDialogs is how many dialogs a document, and a [Table], may have.
const MaxDialogs = 1000

var limits = xmltree.Limits{Bytes: 2 << 20, Items: 100_000, Depth: 32}

// Document is a dialog-info document (RFC 4235 section 4.1).
type Document struct {
	Version uint32
	Full    bool   // all of the user's dialogs; else those that have changed
	Entity  string // whose they are, as it is written
	Dialogs []Dialog
}

// Dialog is one call of the user, as his side sees it.
type Dialog struct {
	ID                          string // "" if there is none, as schemas forbid and phones do
	CallID, LocalTag, RemoteTag string // "" if it is not told
	Direction                   Direction
	State                       State
	Event                       Event // why it is in the state
	Code                        int   // the SIP response that brought it there, 0 if not told
	Local, Remote               Party
	Held                        bool // the user has the call on hold (+sip.rendering of his side is no)
}

// Party is a side of a dialog. Each part is "" if it is not told.
type Party struct {
	Identity string // a URI
	Name     string // to show
	Target   string // where its device is
}

// Direction is who began a dialog (RFC 4235 section 4.1.2).
type Direction uint8

// The directions.
const (
	DirectionUnknown Direction = iota
	Initiator                  // the user called
	Recipient                  // he was called
)

// State is how far a dialog has come (RFC 4235 section 3.7.1).
type State uint8

// The states.
const (
	StateUnknown State = iota // one that is not known, or missing
	Trying
	Proceeding
	Early
	Confirmed
	Terminated
)

var states = map[string]State{"trying": Trying, "proceeding": Proceeding, "early": Early,
	"confirmed": Confirmed, "terminated": Terminated}

var stateNames = [...]string{"unknown", "trying", "proceeding", "early", "confirmed", "terminated"}

// String returns the state's name.
func (s State) String() string { return stateNames[min(int(s), len(stateNames)-1)] }

// Event is why a dialog has changed its state (RFC 4235 section 3.7.1): "cancelled",
// "rejected", "replaced", "local-bye", "remote-bye", "error", "timeout", or "".
type Event string

// Read reads a dialog-info document. What phones and servers are known to do is taken as it
// is meant:
//
//   - no namespace, or a version of many digits: Kamailio's pua_dialoginfo leaves the version
//     to be written by presence_dialoginfo, which joins the dialogs of several publishers into
//     one full document, so that an id may stand twice in it;
//   - dialogs without ids: phones; and no state: only "partial" is one;
//   - names and events in upper case, white space around texts.
//
// An error says that it is no such document, that it has more than [MaxDialogs], or that it is
// partial and has no version by which it could be put into order.
func Read(body []byte) (Document, error) {
	root, err := xmltree.Parse(body, limits)
	if err != nil {
		return Document{}, fmt.Errorf("dialog-info: %w", err)
	}
	if root.Name.Local != "dialog-info" || !root.Of(space) {
		return Document{}, fmt.Errorf("dialog-info: the element is <%.40s> of %.80q, not <dialog-info> of %q",
			root.Name.Local, root.Name.Space, space)
	}
	d := Document{Full: !strings.EqualFold(root.Attr("state"), "partial"), Entity: root.Attr("entity")}
	version, err := strconv.ParseUint(root.Attr("version"), 10, 32)
	if err != nil && !d.Full {
		return Document{}, fmt.Errorf("dialog-info: version=%.20q is no number of 32 bits, and the document is partial",
			root.Attr("version"))
	}
	if err == nil {
		d.Version = uint32(version)
	}
	for _, n := range root.Children {
		if n.Name.Local == "dialog" && n.Of(space) {
			d.Dialogs = append(d.Dialogs, dialog(n))
		}
	}
	if len(d.Dialogs) > MaxDialogs {
		return Document{}, fmt.Errorf("dialog-info: %d dialogs, and at most %d are read", len(d.Dialogs), MaxDialogs)
	}
	return d, nil
}

const space = "urn:ietf:params:xml:ns:dialog-info"

func dialog(n *xmltree.Node) Dialog {
	d := Dialog{ID: n.Attr("id"), CallID: n.Attr("call-id"), LocalTag: n.Attr("local-tag"), RemoteTag: n.Attr("remote-tag")}
	switch strings.ToLower(n.Attr("direction")) {
	case "initiator":
		d.Direction = Initiator
	case "recipient":
		d.Direction = Recipient
	}
	for _, c := range n.Children {
		if !c.Of(space) {
			continue
		}
		switch c.Name.Local {
		case "state":
			d.State = states[strings.ToLower(c.Text)]
			d.Event = Event(strings.ToLower(c.Attr("event")))
			if code, err := strconv.ParseUint(c.Attr("code"), 10, 16); err == nil && code >= 100 && code < 700 {
				d.Code = int(code)
			}
		case "local":
			d.Local, d.Held = party(c)
		case "remote":
			d.Remote, _ = party(c)
		}
	}
	return d
}

// party reads a side, and whether it renders no media (RFC 4235 section 4.1.6.2).
func party(n *xmltree.Node) (p Party, held bool) {
	for _, c := range n.Children {
		if !c.Of(space) {
			continue
		}
		switch c.Name.Local {
		case "identity":
			p.Identity, p.Name = c.Text, c.Attr("display")
		case "target":
			p.Target = c.Attr("uri")
			for _, param := range c.Children {
				held = held || notRendering(param)
			}
		}
	}
	return p, held
}

// notRendering tells whether it is <param pname="+sip.rendering" pval="no"/>. The RFC's own
// examples have pname in more than one spelling, and some phones write pvalue.
func notRendering(n *xmltree.Node) bool {
	name := strings.ToLower(strings.Trim(n.Attr("pname"), `"+`))
	value := strings.Trim(n.Attr("pval")+n.Attr("pvalue"), `"`)
	return n.Name.Local == "param" && name == "sip.rendering" && strings.EqualFold(value, "no")
}
