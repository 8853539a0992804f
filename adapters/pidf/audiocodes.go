package pidf

// The AudioCodes document. The vendor's manual prints it for John Doe,
// sip:john.doe@sfb.example, and says Content-Length: 489. The text as it is
// printed, every line at the margin, does not have that length: it is 464
// bytes with LF, 479 with CRLF, and 465 and 481 with an end to the last line
// too. Blanks are missing, and four regular ways of putting them back give
// 489, all with an end to the last line:
//
//   - CRLF, and two spaces before the four lines that continue the start tag
//     of <presence>;
//   - LF, and one space or tab for each level, those four lines included;
//   - LF, and six spaces before those four lines;
//   - LF, two spaces before those four lines, and one after every line.
//
// We write the first: it is the only one with CRLF, the line end of SIP, and
// it leaves every element where the manual has it. That is a choice and not a
// proof, since the names in the sample may have been replaced after the
// length was counted. To an XML parser all of them are alike (XML 1.0,
// sections 2.11 and 3.3.3), and a server cannot depend on which it gets.
const (
	acBeforeEntity = `<?xml version="1.0" encoding="utf-8"?>` + crlf +
		`<presence xmlns="urn:ietf:params:xml:ns:pidf"` + crlf +
		`  xmlns:ep="urn:ietf:params:xml:ns:pidf:status:rpid-status"` + crlf +
		`  xmlns:et="urn:ietf:params:xml:ns:pidf:rpid-tuple"` + crlf +
		`  xmlns:ci="urn:ietf:params:xml:ns:pidf:cipid"` + crlf +
		`  entity="`
	acBeforeTupleID = `">` + crlf +
		`<tuple id="`
	acAfterTupleID = `">` + crlf +
		`<status>` + crlf +
		`<basic>open</basic>` + crlf
	acActivities = `<ep:activities>` + crlf +
		`<ep:activity>on-the-phone</ep:activity>` + crlf +
		`</ep:activities>` + crlf
	acAfterActivities = `</status>` + crlf +
		`</tuple>` + crlf
	acBeforeName = `<ci:display-name>`
	acAfterName  = `</ci:display-name>` + crlf
	acEnd        = `</presence>` + crlf

	acSize = len(acBeforeEntity) + len(acBeforeTupleID) + len(acAfterTupleID) +
		len(acActivities) + len(acAfterActivities) +
		len(acBeforeName) + len(acAfterName) + len(acEnd)

	// "0" is not a valid xs:ID, which cannot start with a digit, but it is
	// what the gateways send and what the servers are known to accept.
	acTupleID = "0"

	crlf = "\r\n"
)

// AudioCodes returns the document that an AudioCodes gateway publishes to
// Skype for Business for d. The activity is on-the-phone whatever d says but
// that somebody is available, for it is the only one the profile has: "in a
// call or doesn't want to be disturbed". A Note has no place in it.
func AudioCodes(d Document) []byte {
	size := acSize + len(acTupleID) + len(d.Entity) + len(d.TupleID) + len(d.DisplayName)
	return AppendAudioCodes(make([]byte, 0, size), d)
}

// AppendAudioCodes appends what AudioCodes returns to dst and returns the
// extended buffer.
func AppendAudioCodes(dst []byte, d Document) []byte {
	dst = append(dst, acBeforeEntity...)
	dst = appendEscaped(dst, d.Entity)
	dst = append(dst, acBeforeTupleID...)
	dst = appendEscaped(dst, orDefault(d.TupleID, acTupleID))
	dst = append(dst, acAfterTupleID...)
	if d.Activity != Available {
		dst = append(dst, acActivities...)
	}
	dst = append(dst, acAfterActivities...)
	if d.DisplayName != "" {
		dst = append(dst, acBeforeName...)
		dst = appendEscaped(dst, d.DisplayName)
		dst = append(dst, acAfterName...)
	}
	return append(dst, acEnd...)
}
