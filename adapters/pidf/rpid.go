package pidf

// The RPID document. The prefix has to be "rpid" and the activities have to
// be self-closing, because baresip does not parse: it searches the body for
// "<rpid:busy/>" and the like. Ids are ours alone, since presence servers join
// the documents of several publishers into one, where an id may stand only
// once: the person's id is made from the tuple's, so that a TupleID of one's
// own changes both.
//
// The order in <dm:person>, activities and then note, is that of RFC 4479's
// schema.
const (
	rpidBeforeEntity = `<?xml version="1.0" encoding="UTF-8"?>` + "\n" +
		`<presence xmlns="urn:ietf:params:xml:ns:pidf"` +
		` xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model"` +
		` xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid"` +
		` entity="`
	rpidBeforeTupleID = `">` + "\n" +
		`<tuple id="`
	rpidBeforePersonID = `"><status><basic>open</basic></status></tuple>` + "\n" +
		`<dm:person id="`
	rpidBeforeActivities = rpidPersonSuffix + `">`
	rpidBeforeNote       = `<dm:note>`
	rpidEnd              = `</dm:note></dm:person>` + "\n" +
		`</presence>` + "\n"

	rpidSize = len(rpidBeforeEntity) + len(rpidBeforeTupleID) +
		len(rpidBeforePersonID) + len(rpidBeforeActivities) +
		len(rpidBeforeNote) + len(rpidEnd)

	rpidTupleID      = "busylamp"
	rpidPersonSuffix = "-p"
)

// RPID returns the standard document for d: an open tuple, and a person with
// activities and a note. The tuple is open because the presentity can be
// reached, by a message if not by a call (RFC 3863, section 4.1.4).
func RPID(d Document) []byte {
	activities, note := rpidActivities(d.Activity)
	size := rpidSize + len(d.Entity) + len(activities) + len(orDefault(d.Note, note)) +
		2*len(orDefault(d.TupleID, rpidTupleID))
	return AppendRPID(make([]byte, 0, size), d)
}

// AppendRPID appends what RPID returns to dst and returns the extended
// buffer.
func AppendRPID(dst []byte, d Document) []byte {
	id := orDefault(d.TupleID, rpidTupleID)
	activities, note := rpidActivities(d.Activity)
	dst = append(dst, rpidBeforeEntity...)
	dst = appendEscaped(dst, d.Entity)
	dst = append(dst, rpidBeforeTupleID...)
	dst = appendEscaped(dst, id)
	dst = append(dst, rpidBeforePersonID...)
	dst = appendEscaped(dst, id)
	dst = append(dst, rpidBeforeActivities...)
	dst = append(dst, activities...)
	dst = append(dst, rpidBeforeNote...)
	dst = appendEscaped(dst, orDefault(d.Note, note))
	return append(dst, rpidEnd...)
}

const rpidBusy = `<rpid:activities><rpid:busy/></rpid:activities>`

// rpidActivities returns <rpid:activities> (RFC 4480, section 3.2), "" for
// none, and the note that goes with it unless the document has its own.
//
// A call is both busy and on-the-phone, and busy comes first: pjsip looks at
// the first activity alone, and of activities knows busy and away. Whoever
// reads on-the-phone, such as Cisco's clients, finds it behind.
func rpidActivities(a Activity) (activities, note string) {
	switch a {
	case OnThePhone:
		return `<rpid:activities><rpid:busy/><rpid:on-the-phone/></rpid:activities>`, "On the phone"
	case Ringing:
		return rpidBusy, "Ringing"
	case Meeting:
		return `<rpid:activities><rpid:busy/><rpid:meeting/></rpid:activities>`, "In a meeting"
	case Away:
		return `<rpid:activities><rpid:away/></rpid:activities>`, "Away"
	case Available:
		return "", "Available"
	default:
		return rpidBusy, "Busy"
	}
}
