package pidf_test

import (
	"encoding/xml"
	"regexp"
	"strings"
	"testing"

	"github.com/busylamp/busylamp/adapters/pidf"
)

func activities() []pidf.Activity {
	return []pidf.Activity{pidf.OnThePhone, pidf.Ringing, pidf.Busy, pidf.Meeting, pidf.Away}
}

func TestRPID(t *testing.T) {
	got := string(pidf.RPID(pidf.Document{
		Entity:      "sip:john.doe@example.com",
		DisplayName: "John Doe",
	}))
	want := strings.Join([]string{
		`<?xml version="1.0" encoding="UTF-8"?>`,
		`<presence xmlns="urn:ietf:params:xml:ns:pidf"` +
			` xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model"` +
			` xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid"` +
			` entity="sip:john.doe@example.com">`,
		`<tuple id="busylamp"><status><basic>open</basic></status></tuple>`,
		`<dm:person id="busylamp-p">` +
			`<rpid:activities><rpid:busy/><rpid:on-the-phone/></rpid:activities>` +
			`<dm:note>On the phone</dm:note></dm:person>`,
		`</presence>`,
		``,
	}, "\n")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// An application that is there does nothing else: no activity, and nothing of a lamp.
func TestAvailable(t *testing.T) {
	d := pidf.Document{Entity: "sip:desk@example.com", TupleID: "t0", Activity: pidf.Available}
	bodies := [][]byte{pidf.RPID(d), pidf.AudioCodes(d)}
	for i, v := range validate(t, bodies) {
		text := string(bodies[i])
		if !v.valid || strings.Contains(text, "activities") || !strings.Contains(text, "<basic>open</basic>") {
			t.Errorf("%v\n%s", v.complaints, text)
		}
	}
	if got := asBaresip(bodies[0]); got != "open" {
		t.Errorf("baresip reads %s", got)
	}
}

func TestRPIDActivities(t *testing.T) {
	for _, c := range []struct {
		activity   pidf.Activity
		activities string
		note       string
	}{
		{pidf.OnThePhone, `<rpid:busy/><rpid:on-the-phone/>`, "On the phone"},
		{pidf.Ringing, `<rpid:busy/>`, "Ringing"},
		{pidf.Busy, `<rpid:busy/>`, "Busy"},
		{pidf.Meeting, `<rpid:busy/><rpid:meeting/>`, "In a meeting"},
		{pidf.Away, `<rpid:away/>`, "Away"},
		{200, `<rpid:busy/>`, "Busy"},
	} {
		for _, own := range []string{"", "Back at 3"} {
			note := c.note
			if own != "" {
				note = own
			}
			want := `<rpid:activities>` + c.activities + `</rpid:activities>` +
				`<dm:note>` + note + `</dm:note></dm:person>`
			d := pidf.Document{Entity: "sip:a@example.com", Activity: c.activity, Note: own}
			if got := string(pidf.RPID(d)); !strings.Contains(got, want) {
				t.Errorf("activity %d, note %q: got\n%s\nwithout\n%s", c.activity, own, got, want)
			}
		}
	}
}

// TestRPIDAsPhonesReadIt follows two clients that do not read the document as
// the standards mean it, each by the rule that its source has: pjsip looks for
// "busy" and "away" in the name of the first activity, baresip searches the
// body for literal elements, in this order, without parsing it.
func TestRPIDAsPhonesReadIt(t *testing.T) {
	for _, c := range []struct {
		activity       pidf.Activity
		pjsip, baresip string
	}{
		{pidf.OnThePhone, "busy", "busy"},
		{pidf.Ringing, "busy", "busy"},
		{pidf.Busy, "busy", "busy"},
		{pidf.Meeting, "busy", "busy"},
		{pidf.Away, "away", "closed"},
	} {
		body := pidf.RPID(pidf.Document{Entity: "sip:a@example.com", Activity: c.activity})
		if got := asPjsip(t, body); got != c.pjsip {
			t.Errorf("activity %d: pjsip reads %s, want %s", c.activity, got, c.pjsip)
		}
		if got := asBaresip(body); got != c.baresip {
			t.Errorf("activity %d: baresip reads %s, want %s", c.activity, got, c.baresip)
		}
	}
}

func asPjsip(t *testing.T, body []byte) string {
	t.Helper()
	var d struct {
		Activities struct {
			All []struct{ XMLName xml.Name } `xml:",any"`
		} `xml:"person>activities"`
	}
	if err := xml.Unmarshal(body, &d); err != nil || len(d.Activities.All) == 0 {
		t.Fatalf("no activities in %s: %v", body, err)
	}
	first := d.Activities.All[0].XMLName.Local
	for _, known := range []string{"busy", "away"} {
		if strings.Contains(first, known) {
			return known
		}
	}
	return "unknown"
}

func asBaresip(body []byte) string {
	for _, rule := range []struct{ pattern, status string }{
		{`<rpid:away[ \t]*/>`, "closed"},
		{`<rpid:busy[ \t]*/>`, "busy"},
		{`<rpid:on-the-phone[ \t]*/>`, "busy"},
		{`<basic[ \t]*>open</basic[ \t]*>`, "open"},
	} {
		if regexp.MustCompile(rule.pattern).Match(body) {
			return rule.status
		}
	}
	return "unknown"
}

// TestRPIDIdsAreTheirOwn: a server that joins the documents of two publishers
// must not meet one id twice.
func TestRPIDIdsAreTheirOwn(t *testing.T) {
	id := regexp.MustCompile(` id="([^"]*)"`)
	seen := map[string]string{}
	for _, tuple := range []string{"", "other", "busylamp-2"} {
		body := pidf.RPID(pidf.Document{Entity: "sip:a@example.com", TupleID: tuple})
		for _, m := range id.FindAllStringSubmatch(string(body), -1) {
			if of, ok := seen[m[1]]; ok {
				t.Errorf("id %q both with TupleID %q and with %q", m[1], of, tuple)
			}
			seen[m[1]] = tuple
		}
	}
	if len(seen) != 6 {
		t.Errorf("%d ids in three documents, want 6: %v", len(seen), seen)
	}
}
