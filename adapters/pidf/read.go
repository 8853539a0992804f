package pidf

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/busylamp/busylamp/adapters/pidf/xmltree"
)

// What is read at most. A server joins the documents of all of a user's devices into one.
const (
	maxBytes      = 256 << 10
	maxItems      = 20_000
	maxDepth      = 32
	maxTuples     = 256
	maxPersons    = 256
	maxActivities = 32   // of a tuple or a person; what follows is not read
	maxNotes      = 16   // of a tuple, a person or a document; what follows is not read
	maxNote       = 1024 // bytes of a note; what follows is cut off
)

// Seen is what a document says: of one publisher, or of several, whose documents a server has
// joined into one.
type Seen struct {
	Entity  string // the presentity's URI, as it is written
	Tuples  []Tuple
	Persons []Person
	Notes   []string // of the document itself (RFC 3863 section 4.1.6)
}

// Tuple is a way to reach the presentity (RFC 3863 section 4.1.2), mostly a device.
type Tuple struct {
	ID       string
	HasBasic bool // there is a <basic>
	Open     bool // and it is open
	Contact  string
	Device   string // <dm:deviceID> (RFC 4479 section 3.5)
	// Relationship is of the tuple to the presentity (RFC 4480 section 3.7): "" and "self"
	// are himself, and others, such as "assistant", somebody else.
	Relationship string
	Doing
}

// Person is what the presentity does himself (RFC 4479 section 3.2).
type Person struct {
	ID string
	Doing
}

// Doing is what RPID (RFC 4480) and its drafts say in a tuple or of a person.
type Doing struct {
	// Activities are the names of elements in <activities> (RFC 4480 section 3.2), such as
	// "on-the-phone", or of a draft's <activity>; in lower case, as they stand. Vendors add
	// some: "dnd" (Cisco), "alerting" (Cisco).
	Activities []string
	// Notes are texts for people, those of activities (<other>, and Linphone's <busy>) behind
	// the element's own.
	Notes     []string
	Timestamp time.Time // when it was said; zero: unknown
	// From and Until are when the activities begin and end (RFC 4480 section 3.1); zero: open.
	From, Until time.Time
}

// Read reads a PIDF document (RFC 3863) with RPID (RFC 4480), the data model's persons and
// devices (RFC 4479), and what preceded them and is still written:
//
//   - AudioCodes, Lync: <ep:activities><ep:activity>on-the-phone</ep:activity> in <status>.
//   - Cisco: <e:activities><e:on-the-phone/> in <status>, with <ce:dnd/> and <ce:alerting/>.
//   - Asterisk chan_sip: <pp:person><status><ep:activities><ep:busy/>, notes of the document.
//   - Asterisk res_pjsip: a <dm:person> without an id, <digium_presence type="dnd"> in <status>.
//   - eyeBeam, Zoiper: <rpid:activities> in the tuple, and <rpid:unknown/> without them.
//
// An error says that it is no such document, or a larger one than is read. Elements and values
// that are not known are skipped.
func Read(body []byte) (Seen, error) {
	root, err := xmltree.Parse(body, xmltree.Limits{Bytes: maxBytes, Items: maxItems, Depth: maxDepth})
	if err != nil {
		return Seen{}, fmt.Errorf("PIDF: %w", err)
	}
	if root.Name.Local != "presence" || !ours(root) {
		return Seen{}, fmt.Errorf("PIDF: the element is <%.40s> of %.80q, not <presence> of %q",
			root.Name.Local, root.Name.Space, spacePIDF)
	}
	s := Seen{Entity: root.Attr("entity")}
	for _, n := range root.Children {
		switch {
		case !ours(n):
		case n.Name.Local == "tuple":
			s.Tuples = append(s.Tuples, tuple(n))
		case n.Name.Local == "person":
			s.Persons = append(s.Persons, person(n))
		case n.Name.Local == "note":
			s.Notes = appendNote(s.Notes, n.Text)
		}
	}
	if len(s.Tuples) > maxTuples || len(s.Persons) > maxPersons {
		return Seen{}, fmt.Errorf("PIDF: %d tuples and %d persons, and at most %d and %d are read",
			len(s.Tuples), len(s.Persons), maxTuples, maxPersons)
	}
	return s, nil
}

const spacePIDF = "urn:ietf:params:xml:ns:pidf"

// ours tells whether an element is of PIDF, of one of the many namespaces of RPID and its
// drafts, all of which begin with PIDF's, or has a prefix that is not declared: a URN has a
// colon, and a prefix cannot have one.
func ours(n *xmltree.Node) bool {
	rest, ok := strings.CutPrefix(n.Name.Space, spacePIDF)
	return ok && (rest == "" || rest[0] == ':') || !strings.Contains(n.Name.Space, ":")
}

func tuple(n *xmltree.Node) Tuple {
	t := Tuple{ID: n.Attr("id")}
	for _, c := range inStatus(n) {
		if !ours(c) {
			continue
		}
		switch c.Name.Local {
		case "basic":
			t.HasBasic = true
			t.Open = t.Open || strings.EqualFold(c.Text, "open")
		case "contact":
			t.Contact = c.Text
		case "deviceID":
			t.Device = cut(c.Text)
		case "relationship":
			t.Relationship = relationship(c)
		}
	}
	t.Doing = doing(n)
	return t
}

// relationship returns the first of an element's names: <relationship><assistant/>, or the
// text of a draft.
func relationship(n *xmltree.Node) string {
	for _, c := range n.Children {
		if c.Name.Local != "note" {
			return strings.ToLower(c.Name.Local)
		}
	}
	return strings.ToLower(n.Text)
}

func person(n *xmltree.Node) Person { return Person{ID: n.Attr("id"), Doing: doing(n)} }

// inStatus returns the children of a tuple or a person together with those of its <status>:
// what stands in which has changed from draft to draft.
func inStatus(n *xmltree.Node) []*xmltree.Node {
	var all []*xmltree.Node
	for _, c := range n.Children {
		all = append(all, c)
		if c.Name.Local == "status" {
			all = append(all, c.Children...)
		}
	}
	return all
}

// Without returns what others say: the document without the tuples and persons whose ids are
// one's own. Of a document that holds nothing else, nothing remains.
func (s Seen) Without(own func(id string) bool) Seen {
	s.Tuples = slices.DeleteFunc(slices.Clone(s.Tuples), func(t Tuple) bool { return own(t.ID) })
	s.Persons = slices.DeleteFunc(slices.Clone(s.Persons), func(p Person) bool { return own(p.ID) })
	return s
}

// Own returns the test for [Seen.Without] of what this package's profiles write under tuple
// ids: the tuples, and the persons that go with them.
func Own(tuples []string) func(id string) bool {
	ids := make(map[string]bool, 2*len(tuples))
	for _, id := range tuples {
		ids[id], ids[id+rpidPersonSuffix] = true, true
	}
	return func(id string) bool { return ids[id] }
}
