package pidf_test

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/pidf"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func read(t *testing.T, document string) pidf.Seen {
	t.Helper()
	s, err := pidf.Read([]byte(document))
	if err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
	return s
}

// variants are what others write, and what a watcher would show of it.
func variants(t *testing.T) []struct {
	name, document string
	want           pidf.Summary // Unknown: nothing is said
	valid          bool         // by the schemas
} {
	t.Helper()
	onThePhone := func(note string) pidf.Summary {
		return pidf.Summary{Availability: pidf.SeenBusy, Activity: "on-the-phone", Note: note}
	}
	dnd := func(note string) pidf.Summary {
		return pidf.Summary{Availability: pidf.SeenDoNotDisturb, Note: note}
	}
	only := func(a pidf.Availability, note string) pidf.Summary { return pidf.Summary{Availability: a, Note: note} }
	replaced := func(s string, pairs ...string) string {
		out := strings.NewReplacer(pairs...).Replace(s)
		if out == s {
			t.Fatalf("nothing of %q in\n%s", pairs, s)
		}
		return out
	}
	return []struct {
		name, document string
		want           pidf.Summary
		valid          bool
	}{
		{"audiocodes", sample(t), onThePhone(""), false}, // its id "0"
		{"pjsip", pjsip, only(pidf.SeenAway, "Gone fishing"), true},
		{"baresip", baresip, onThePhone(""), true},
		{"baresip, open", baresipOpen, only(pidf.SeenAvailable, ""), true},
		{"freeswitch, dnd", freeSwitch, dnd("Do Not Disturb"), true},
		{"freeswitch, talk", freeSwitchTalk, onThePhone("On The Phone 1001"), true},
		{"bria", bria, onThePhone("On the Phone"), true},
		{"linphone, dnd", linphoneDND, dnd("Do not disturb"), true},
		{"linphone, busy dnd", linphoneBusyDND, dnd("Do not disturb"), false}, // text in <rpid:busy>
		{"jitsi", jitsi, dnd("Busy (DND)"), false},                            // the order
		{"chan_sip, in use", chanSIP, onThePhone("On the phone"), false},
		{"chan_sip, on hold", replaced(chanSIP, "On the phone", "On hold"), onThePhone("On hold"), false},
		{"chan_sip, ringing", replaced(chanSIP, "On the phone", "Ringing", "closed", "open"),
			pidf.Summary{Availability: pidf.SeenBusy, Activity: "ringing", Note: "Ringing"}, false},
		{"chan_sip, unregistered", replaced(chanSIP, "On the phone", "Not online", "busy", "away"), only(pidf.SeenOffline, "Not online"), false},
		{"res_pjsip, ready", resPJSIP, only(pidf.SeenAvailable, "Ready"), false}, // a person without an id
		{"digium, dnd", digium, dnd("Till noon"), false},
		{"digium, extended away", replaced(digium, "dnd", "xa"), only(pidf.SeenAway, "Till noon"), false},
		{"digium, chat", replaced(digium, "dnd", "chat"), only(pidf.SeenAvailable, "Till noon"), false},
		{"cisco", cisco, onThePhone(""), false},
		{"cisco, dnd", ciscoDND, dnd(""), false},
		{"cisco, alerting", ciscoAlerting, pidf.Summary{Availability: pidf.SeenBusy, Activity: "ringing"}, false},
		{"cisco, dnd by itself", strings.NewReplacer("<e:activities>", "", "</e:activities>", "").Replace(ciscoDND), dnd(""), false},
		{"eyebeam", eyeBeam, only(pidf.SeenBusy, ""), true},
		{"zoiper", zoiper, only(pidf.SeenAvailable, ""), true},
		{"kamailio, nobody publishes", kamailioDummy, only(pidf.SeenAvailable, "Available"), false},
		{"no namespaces", `<presence entity="sip:a@b"><tuple id="x"><status><basic> OPEN </basic></status></tuple>` +
			`<person><activities><on-the-phone/></activities></person></presence>`, onThePhone(""), false},
		{"prefixes undeclared", `<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:a@b"><tuple id="x"><status>` +
			`<basic>closed</basic></status></tuple><dm:person id="p"><rpid:activities><rpid:busy/></rpid:activities></dm:person></presence>`,
			only(pidf.SeenBusy, ""), false},
		{"a prefix of its own", `<p:presence xmlns:p="urn:ietf:params:xml:ns:pidf" entity="sip:a@b"><p:tuple id="x"><p:status>` +
			`<p:basic>closed</p:basic></p:status></p:tuple></p:presence>`, only(pidf.SeenOffline, ""), true},
		{"another's elements", `<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:x="urn:x" entity="sip:a@b"><x:tuple id="x"><status>` +
			`<basic>open</basic></status></x:tuple><x:person id="p"><x:busy/></x:person></presence>`, pidf.Summary{}, true},
		{"another's in ours", `<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:x="urn:x" entity="sip:a@b"><tuple id="x"><status>` +
			`<x:basic>open</x:basic><x:activities><busy/></x:activities></status><x:note>n</x:note><x:busy/></tuple></presence>`, pidf.Summary{}, true},
		{"nobody publishes", head + tail, pidf.Summary{}, true},
		{"notes alone", head + "<note>Do not disturb</note>" + tail, pidf.Summary{Note: ""}, true},
		{"a note is no activity", head + `<tuple id="t1"><status><basic>open</basic></status><note>Do not disturb</note></tuple>` + tail,
			only(pidf.SeenAvailable, "Do not disturb"), true},
		{"neither basic nor activity", head + `<tuple id="t1"><status/></tuple><dm:person id="p1"/>` + tail, pidf.Summary{}, true},
	}
}

// TestReadsWhatOthersWrite: each of the known writers' documents amounts to what it means.
func TestReadsWhatOthersWrite(t *testing.T) {
	for _, v := range variants(t) {
		got, ok := read(t, v.document).Summary(noon)
		if ok != (v.want.Availability != pidf.SeenUnknown) {
			t.Errorf("%s: said something: %v (%+v)", v.name, ok, got)
		}
		if got != v.want {
			t.Errorf("%s:\n got %+v\nwant %+v", v.name, got, v.want)
		}
	}
}

// TestVariantsAreValid holds those documents to the schemas that do not deviate from them.
func TestVariantsAreValid(t *testing.T) {
	var bodies [][]byte
	var names []string
	for _, v := range variants(t) {
		if v.valid {
			bodies, names = append(bodies, []byte(v.document)), append(names, v.name)
		}
	}
	for i, v := range validate(t, append(bodies, []byte(rfc4480))) {
		if !v.valid {
			t.Errorf("%s: %s", append(names, "rfc4480")[i], strings.Join(v.complaints, "\n"))
		}
	}
}

// TestReadKeepsEverything reads a document with all that is read of one.
func TestReadKeepsEverything(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	want := pidf.Seen{
		Entity: "pres:someone@example.com",
		Tuples: []pidf.Tuple{
			{ID: "bs35r9", HasBasic: true, Open: true, Contact: "im:someone@mobile.example.net", Device: "urn:device:0003ba4811e3",
				Relationship: "self", Doing: pidf.Doing{Notes: []string{"Don't Disturb Please!"}, Timestamp: at("2005-10-27T16:49:29Z")}},
			{ID: "ty4658", HasBasic: true, Open: true, Contact: "mailto:secretary@example.com", Relationship: "assistant"},
			{ID: "eg92n8", HasBasic: true, Contact: "sip:someone@example.com", Device: "urn:x-mac:0003ba4811e3"},
		},
		Persons: []pidf.Person{
			{ID: "p1", Doing: pidf.Doing{Activities: []string{"away"}, Notes: []string{"Far away", "Scoring 120"},
				Timestamp: at("2005-05-30T11:09:44Z"), From: at("2005-05-30T07:00:00Z"), Until: at("2005-05-30T12:00:00Z")}},
			{ID: "p2", Doing: pidf.Doing{Activities: []string{"vacation", "presentation"}}},
		},
		Notes: []string{"I'll be in Tokyo next week"},
	}
	if got := read(t, rfc4480); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// TestOwnDocumentsReadBack: what each profile writes reads as what it was told, with any text
// in any place, and as nothing once one's own is taken out.
func TestOwnDocumentsReadBack(t *testing.T) {
	means := map[pidf.Activity]pidf.Summary{
		pidf.OnThePhone: {Availability: pidf.SeenBusy, Activity: "on-the-phone", Note: "On the phone"},
		pidf.Ringing:    {Availability: pidf.SeenBusy, Activity: "ringing", Note: "Ringing"},
		pidf.Busy:       {Availability: pidf.SeenBusy, Note: "Busy"},
		pidf.Meeting:    {Availability: pidf.SeenBusy, Activity: "meeting", Note: "In a meeting"},
		pidf.Away:       {Availability: pidf.SeenAway, Note: "Away"},
		pidf.Available:  {Availability: pidf.SeenAvailable, Note: "Available"},
	}
	for _, a := range append(activities(), pidf.Available) {
		for _, p := range profiles {
			d := plain
			d.Activity = a
			want := means[a]
			if p.name == "audiocodes" { // which has one activity and no notes
				if a != pidf.Available {
					want = means[pidf.OnThePhone]
				}
				want.Note = ""
			}
			readBack(t, p.name, p.document(d), p.defaultID, d.Entity, want)
		}
	}
	dnd := plain
	dnd.Activity, dnd.Note, dnd.TupleID = pidf.Busy, "Do not disturb", "t0"
	readBack(t, "dnd", pidf.RPID(dnd), "t0", dnd.Entity, pidf.Summary{Availability: pidf.SeenDoNotDisturb, Note: "Do not disturb"})
}

func readBack(t *testing.T, name string, body []byte, id, entity string, want pidf.Summary) {
	t.Helper()
	s := read(t, string(body))
	if got, ok := s.Summary(noon); !ok || got != want {
		t.Errorf("%s: got %+v, want %+v, from\n%s", name, got, want, body)
	}
	if s.Entity != entity || len(s.Tuples) != 1 || s.Tuples[0].ID != id || !s.Tuples[0].Open {
		t.Errorf("%s: read %+v, want the entity %q and the open tuple %q", name, s, entity, id)
	}
	if got, ok := s.Without(pidf.Own([]string{"another", id})).Summary(noon); ok {
		t.Errorf("%s: %+v is left without our own", name, got)
	}
	if _, ok := s.Without(pidf.Own([]string{"another"})).Summary(noon); !ok {
		t.Errorf("%s: nothing is left without another's", name)
	}
}

// TestOwnDocumentsReadBackWhateverTheyHold: no text breaks what is read, and each comes back
// but for what XML cannot hold, white space around it, and what is longer than a note.
func TestOwnDocumentsReadBackWhateverTheyHold(t *testing.T) {
	for _, text := range nasty {
		want := strings.TrimSpace(cleaned(text))
		for _, p := range profiles {
			s := read(t, string(p.document(pidf.Document{Entity: text, DisplayName: text, TupleID: text, Note: text})))
			if s.Entity != want || len(s.Tuples) != 1 {
				t.Fatalf("%s: %q reads as %+v", p.name, text, s)
			}
			if text != "" && s.Tuples[0].ID != want {
				t.Errorf("%s: the tuple id %q reads as %q", p.name, text, s.Tuples[0].ID)
			}
			for _, person := range s.Persons {
				if text == "" || want == "" {
					continue
				}
				if note := person.Notes[0]; note != want && (len(want) <= 1024 || note != want[:1024]) {
					t.Errorf("%s: the note %q reads as %q", p.name, text, note)
				}
			}
		}
	}
}

// TestOthersRemainWithoutOurs: of two publishers' documents that Kamailio 5.6.3 has joined, the
// other's alone counts.
func TestOthersRemainWithoutOurs(t *testing.T) {
	body, err := os.ReadFile("testdata/kamailio-two-publishers.xml")
	if err != nil {
		t.Fatal(err)
	}
	s := read(t, string(body))
	if got, _ := s.Summary(noon); got.Activity != "on-the-phone" {
		t.Errorf("both: %+v, want on-the-phone", got)
	}
	rest := s.Without(pidf.Own([]string{"busylamp"}))
	want := pidf.Summary{Availability: pidf.SeenBusy, Note: "At work"}
	if got, ok := rest.Summary(noon); !ok || got != want {
		t.Errorf("without ours: %+v, want %+v", got, want)
	}
	if len(s.Tuples) != 2 || len(s.Persons) != 2 {
		t.Errorf("Without has changed what it was called on: %+v", s)
	}
	if got, ok := rest.Without(pidf.Own([]string{"soft"})).Summary(noon); ok {
		t.Errorf("without both: %+v", got)
	}
}

// TestCharsets: what a phone says of its charset is true, or what it writes is read all the
// same.
func TestCharsets(t *testing.T) {
	for _, c := range []struct{ name, declared, note, want string }{
		{"utf-8", "utf-8", "Müller", "Müller"},
		{"latin", "ISO-8859-1", "M\xfcller \x80", "Müller €"},
		{"latin that is utf-8", "ISO-8859-1", "Müller", "Müller"},
		{"utf-8 that is not", "UTF-8", "M\xfcller", "M\ufffdller"},
	} {
		body := strings.Replace(head, "UTF-8", c.declared, 1) + "<note>" + c.note + "</note>" + openTuple + tail
		if got := read(t, body); len(got.Notes) != 1 || got.Notes[0] != c.want {
			t.Errorf("%s: %q, want %q", c.name, got.Notes, c.want)
		}
	}
}

// TestReadRefuses: what is no PIDF, or more of it than is read, is an error that says so.
func TestReadRefuses(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"nothing", "", "no document"},
		{"another document", `<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info"/>`, "<dialog-info>"},
		{"another presence", `<presence xmlns="urn:x"/>`, `"urn:x"`},
		{"cut off", head + openTuple, "EOF"},
		{"two of them", head + tail + "<presence/>", "second document"},
		{"many tuples", head + strings.Repeat(openTuple, 257) + tail, "257 tuples"},
		{"many persons", head + strings.Repeat("<dm:person/>", 257) + tail, "257 persons"},
		{"long", head + "<note>" + strings.Repeat("x", 256<<10) + "</note>" + tail, "bytes"},
		{"many elements", head + strings.Repeat("<x/>", 20_001) + tail, "elements"},
		{"deep", head + strings.Repeat("<x>", 40) + strings.Repeat("</x>", 40) + tail, "deep"},
		{"entities", `<!DOCTYPE presence [<!ENTITY a "aaaa">]><presence><note>&a;</note></presence>`, "entity"},
		{"charset", `<?xml version="1.0" encoding="EBCDIC-US"?><presence/>`, "EBCDIC"},
	} {
		if s, err := pidf.Read([]byte(c.body)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error about %q (read %.200v)", c.name, err, c.want, s)
		}
	}
}

// TestReadCutsWhatIsLong: one long or many short texts do not cost the presence, and are cut
// between characters.
func TestReadCutsWhatIsLong(t *testing.T) {
	s := read(t, head+openTuple+"<dm:person id='p'><rpid:activities>"+strings.Repeat("<rpid:busy/>", 100)+"</rpid:activities>"+
		strings.Repeat("<dm:note>"+strings.Repeat("€", 500)+"</dm:note>", 20)+"</dm:person>"+tail)
	p := s.Persons[0]
	if len(p.Activities) != 32 || len(p.Notes) != 16 || p.Notes[0] != strings.Repeat("€", 341) {
		t.Errorf("%d activities, %d notes, the first of %d bytes: %q", len(p.Activities), len(p.Notes), len(p.Notes[0]), p.Notes[0][990:])
	}
}

func FuzzRead(f *testing.F) {
	for _, p := range profiles {
		f.Add(p.document(plain))
	}
	for _, s := range []string{pjsip, jitsi, chanSIP, resPJSIP, digium, ciscoDND, rfc4480, kamailioDummy} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := pidf.Read(body)
		if err != nil {
			return
		}
		before := bytes.Clone(body)
		sum, ok := s.Summary(noon)
		if ok != (sum.Availability != pidf.SeenUnknown) || sum.Since.After(noon) || len(sum.Note) > 1024 {
			t.Errorf("%v, %+v", ok, sum)
		}
		if sum, ok := s.Without(func(string) bool { return true }).Summary(noon); ok {
			t.Errorf("%+v of nothing", sum)
		}
		if !bytes.Equal(before, body) {
			t.Error("the body has changed")
		}
	})
}
