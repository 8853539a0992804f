package pidf_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/busylamp/busylamp/adapters/pidf"
)

// nasty are strings that break documents which are put together carelessly.
var nasty = []string{
	"",
	" ",
	" leading and trailing ",
	"O'Neil \"The <Boss>\" & Söhne",
	"]]>",
	"<![CDATA[x]]>",
	"<!-- -- -->",
	"<?xml version=\"1.0\"?>",
	"&amp; &#0; &lt;script&gt; &nbsp;",
	"</ci:display-name></presence><presence>",
	"\"><tuple id=\"evil\"><status/></tuple>",
	"tab\there, line\nhere, return\rhere, both\r\nhere",
	"nul\x00 bell\x07 escape\x1b unit\x1f delete\x7f",
	"C1 \u0080\u0085\u009f separators \u2028\u2029",
	"invalid \xff\xfe \xc3( \xe2\x82 \xf0\x28\x8c\x28",
	"overlong \xc0\xaf surrogate \xed\xa0\x80 beyond \xf4\x90\x80\x80",
	"no characters \ufffe \uffff, replacement \ufffd, mark \ufeff",
	"جون 约翰 Иван 👩‍👩‍👧 \U0010ffff \U0001fffe e\u0301",
	"right to left \u202e override",
	"cut off \xe2\x82",
	strings.Repeat("<&>\"", 1000),
}

// parsed is what a reader makes of a document of either profile.
type parsed struct {
	XMLName xml.Name `xml:"urn:ietf:params:xml:ns:pidf presence"`
	Entity  string   `xml:"entity,attr"`
	Tuples  []struct {
		ID     string `xml:"id,attr"`
		Status struct {
			Basic string `xml:"urn:ietf:params:xml:ns:pidf basic"`
			Draft struct {
				Activity []string `xml:"activity"`
			} `xml:"urn:ietf:params:xml:ns:pidf:status:rpid-status activities"`
		} `xml:"urn:ietf:params:xml:ns:pidf status"`
	} `xml:"urn:ietf:params:xml:ns:pidf tuple"`
	DisplayNames []string `xml:"urn:ietf:params:xml:ns:pidf:cipid display-name"`
	Persons      []struct {
		ID         string   `xml:"id,attr"`
		Notes      []string `xml:"urn:ietf:params:xml:ns:pidf:data-model note"`
		Activities struct {
			All []struct{ XMLName xml.Name } `xml:",any"`
		} `xml:"urn:ietf:params:xml:ns:pidf:rpid activities"`
	} `xml:"urn:ietf:params:xml:ns:pidf:data-model person"`
	Others []struct{ XMLName xml.Name } `xml:",any"`
}

// parse reads the one element that body is to hold, to the end.
func parse(t *testing.T, body []byte) parsed {
	t.Helper()
	decoder := xml.NewDecoder(bytes.NewReader(body))
	var p parsed
	if err := decoder.Decode(&p); err != nil {
		t.Fatalf("not well-formed: %v\n%q", err, body)
	}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if space, ok := token.(xml.CharData); err != nil || !ok || len(bytes.TrimSpace(space)) > 0 {
			t.Fatalf("after the document: %v, %v\n%q", token, err, body)
		}
	}
	if len(p.Tuples) != 1 || p.Tuples[0].Status.Basic != "open" || len(p.Others) != 0 {
		t.Fatalf("not one open tuple: %+v\n%q", p, body)
	}
	return p
}

// cleaned is what a reader is to get for s: what XML 1.0, section 2.2, does
// not call a Char is replaced, byte by byte where it is not UTF-8.
func cleaned(s string) string {
	var out strings.Builder
	for _, r := range s { // gives U+FFFD for each byte that is not UTF-8
		char := r == 0x9 || r == 0xA || r == 0xD || r >= 0x20 && r <= 0xD7FF ||
			r >= 0xE000 && r <= 0xFFFD || r >= 0x10000 && r <= 0x10FFFF
		if !char {
			r = 0xFFFD
		}
		out.WriteRune(r)
	}
	return out.String()
}

// cleanedOr is cleaned, or def for an empty string.
func cleanedOr(s, def string) string {
	if s == "" {
		return def
	}
	return cleaned(s)
}

func checkAudioCodes(t *testing.T, d pidf.Document) {
	t.Helper()
	p := parse(t, pidf.AudioCodes(d))
	if want := cleaned(d.Entity); p.Entity != want {
		t.Errorf("entity %q, want %q", p.Entity, want)
	}
	if want := cleanedOr(d.TupleID, "0"); p.Tuples[0].ID != want {
		t.Errorf("tuple id %q, want %q", p.Tuples[0].ID, want)
	}
	draft := p.Tuples[0].Status.Draft.Activity
	want := []string{"on-the-phone"}
	if d.Activity == pidf.Available {
		want = nil
	}
	if !slices.Equal(draft, want) || len(p.Persons) != 0 {
		t.Errorf("activities %q, persons %v", draft, p.Persons)
	}
	name := strings.Join(p.DisplayNames, "|")
	if len(p.DisplayNames) > 1 || name != cleaned(d.DisplayName) {
		t.Errorf("display names %q, want %q", p.DisplayNames, cleaned(d.DisplayName))
	}
}

func checkRPID(t *testing.T, d pidf.Document) {
	t.Helper()
	p := parse(t, pidf.RPID(d))
	if want := cleaned(d.Entity); p.Entity != want {
		t.Errorf("entity %q, want %q", p.Entity, want)
	}
	id := cleanedOr(d.TupleID, "busylamp")
	if p.Tuples[0].ID != id || len(p.Persons) != 1 || p.Persons[0].ID != id+"-p" {
		t.Fatalf("ids %q, %+v, want %q", p.Tuples[0].ID, p.Persons, id)
	}
	person := p.Persons[0]
	if len(person.Notes) != 1 || person.Notes[0] == "" ||
		d.Note != "" && person.Notes[0] != cleaned(d.Note) {
		t.Errorf("notes %q, want %q", person.Notes, cleaned(d.Note))
	}
	if n := len(person.Activities.All); (n == 0) != (d.Activity == pidf.Available) || n > 2 {
		t.Errorf("%d activities: %v", n, person.Activities.All)
	}
}

func TestNastyStringsComeBack(t *testing.T) {
	for _, s := range nasty {
		for _, a := range activities() {
			d := pidf.Document{Entity: s, DisplayName: s, TupleID: s, Activity: a, Note: s}
			checkAudioCodes(t, d)
			checkRPID(t, d)
		}
	}
}

// TestWhiteSpaceIsWrittenAsReferences: literal white space in an attribute is
// read as spaces (XML 1.0, section 3.3.3), which encoding/xml does not do, so
// that reading the document back would not tell.
func TestWhiteSpaceIsWrittenAsReferences(t *testing.T) {
	const in, want = "a\tb\nc\rd", "a&#9;b&#10;c&#13;d"
	d := pidf.Document{Entity: in, DisplayName: in, TupleID: in, Note: in}
	for _, c := range []struct {
		body   []byte
		fields int
	}{
		{pidf.AudioCodes(d), 3}, // entity, tuple id, display name
		{pidf.RPID(d), 4},       // entity, tuple id, person id, note
	} {
		if got := strings.Count(string(c.body), want); got != c.fields {
			t.Errorf("%d times %s, want %d:\n%s", got, want, c.fields, c.body)
		}
	}
}

func FuzzWellFormed(f *testing.F) {
	f.Add("sip:john.doe@sfb.example", "John Doe", "0", "On the phone", uint8(0))
	for i, s := range nasty {
		f.Add(s, nasty[(i+1)%len(nasty)], nasty[(i+2)%len(nasty)], nasty[(i+3)%len(nasty)], uint8(i))
	}
	f.Fuzz(func(t *testing.T, entity, name, tuple, note string, activity uint8) {
		d := pidf.Document{
			Entity:      entity,
			DisplayName: name,
			TupleID:     tuple,
			Activity:    pidf.Activity(activity),
			Note:        note,
		}
		checkAudioCodes(t, d)
		checkRPID(t, d)
	})
}
