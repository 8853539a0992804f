// Package pidf writes the bodies of PUBLISH requests for the presence event
// package: PIDF (RFC 3863) in two profiles.
//
// AudioCodes is the document that AudioCodes gateways send to Skype for
// Business: activities of a draft that preceded RFC 4480, inside the tuple's
// status. RPID is the standard form, with the activities of a person
// (RFC 4479, RFC 4480), which other presence servers and phones understand.
//
// Whatever the strings of a Document hold, the result is well-formed XML 1.0
// in UTF-8. Characters that XML cannot hold (XML 1.0, section 2.2), and bytes
// that are not UTF-8, come out as U+FFFD: a caller chooses his own display
// name, and must not be able to break, or add to, what is published about
// him. To be valid by the schemas as well, a document needs an Entity that is
// a URI and a TupleID that is an XML name.
//
// A person who is available has his publication withdrawn, by a PUBLISH with
// Expires 0 and no body (RFC 3903, section 4.5): it is for his own client to say
// that he is. The document for "available" is an application's.
package pidf

// ContentType is the media type of every document of this package
// (RFC 3863, section 3.1).
const ContentType = "application/pidf+xml"

// Document is what a PIDF body says of one presentity.
type Document struct {
	// Entity is the presentity's URI, for example "sip:john.doe@example.com":
	// the entity attribute of <presence> (RFC 3863, section 4.1.1).
	Entity string

	// DisplayName is the presentity's name: <display-name> of CIPID
	// (RFC 4482, section 3.2). Left out if it is empty, and by the RPID
	// profile always.
	DisplayName string

	// TupleID is the id of the one tuple (RFC 3863, section 4.1.2): "" means
	// the profile's default. Presence servers join the documents of several
	// publishers, and Kamailio's drops one of two whose first tuples have the
	// same id, so no two publishers may use the same one for a presentity. It
	// has to be a name as of xs:ID: no digit first, no colon, no space.
	TupleID string

	// Activity is what the presentity is doing.
	Activity Activity

	// Note is the text that phones show beside the lamp: <note> of <person>
	// (RFC 4479, section 3.2), in the RPID profile alone. "" means a default
	// for the activity, such as "On the phone".
	Note string
}

// Activity is what a presentity is doing (RFC 4480, section 3.2). The zero
// value is OnThePhone, and a value that is none of these is published like
// Busy: in doubt a presentity is busy.
type Activity uint8

const (
	// OnThePhone is a presentity with an answered call.
	OnThePhone Activity = iota
	// Ringing is a presentity with calls that nobody has answered yet.
	// RFC 4480 has no activity for it.
	Ringing
	// Busy is a presentity who does not want to be disturbed.
	Busy
	// Meeting is a presentity in a meeting.
	Meeting
	// Away is a presentity who is not there.
	Away
	// Available is a presentity who has nothing to do: an application that is there. A
	// person's client says this.
	Available
)

// DefaultTupleID is the id of the tuple of a document that has none of its own.
func DefaultTupleID(audioCodes bool) string {
	if audioCodes {
		return acTupleID
	}
	return rpidTupleID
}
