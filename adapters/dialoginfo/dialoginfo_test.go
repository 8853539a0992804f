package dialoginfo_test

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/busylamp/busylamp/adapters/dialoginfo"
)

const (
	head = `<?xml version="1.0"?>` + "\n" +
		`<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="%d" state="%s" entity="sip:alice@example.com">` + "\n"
	tail = "</dialog-info>\n"
)

func full(version int, dialogs ...string) string {
	return fmt.Sprintf(head, version, "full") + strings.Join(dialogs, "") + tail
}

func partial(version int, dialogs ...string) string {
	return fmt.Sprintf(head, version, "partial") + strings.Join(dialogs, "") + tail
}

// in is a dialog in a state.
func in(id, state string) string {
	return `<dialog id="` + id + `"><state>` + state + `</state></dialog>`
}

func read(t *testing.T, document string) dialoginfo.Document {
	t.Helper()
	d, err := dialoginfo.Read([]byte(document))
	if err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
	return d
}

// TestReadKeepsEverything reads a document with all that is read of one, among what is not.
func TestReadKeepsEverything(t *testing.T) {
	got := read(t, partial(4294967295, `
  <dialog id="as7d900as8" call-id="a84b4c76e66710" local-tag="1928301774" remote-tag="456887766" direction="initiator">
    <state event="rejected" code="486">terminated</state>
    <duration>274</duration>
    <x:route xmlns:x="urn:x"/><x:state xmlns:x="urn:x">confirmed</x:state>
    <local>
      <identity display="Alice &amp; Co">sip:alice@example.com</identity>
      <target uri="sip:alice@pc33.example.com"><param pname="+sip.rendering" pval="no"/></target>
      <session-description type="application/sdp">v=0</session-description>
    </local>
    <remote>
      <identity display="Bob">sip:bob@example.org</identity>
      <target uri="sip:bobster@phone21.example.org"/>
    </remote>
  </dialog>
  <dialog id="two" direction="recipient"><state>early</state></dialog>
  <note>no dialog</note>`))
	want := dialoginfo.Document{Version: 4294967295, Entity: "sip:alice@example.com", Dialogs: []dialoginfo.Dialog{
		{ID: "as7d900as8", CallID: "a84b4c76e66710", LocalTag: "1928301774", RemoteTag: "456887766", Direction: dialoginfo.Initiator,
			State: dialoginfo.Terminated, Event: "rejected", Code: 486, Held: true,
			Local:  dialoginfo.Party{Identity: "sip:alice@example.com", Name: "Alice & Co", Target: "sip:alice@pc33.example.com"},
			Remote: dialoginfo.Party{Identity: "sip:bob@example.org", Name: "Bob", Target: "sip:bobster@phone21.example.org"}},
		{ID: "two", Direction: dialoginfo.Recipient, State: dialoginfo.Early},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// TestReadsWhatOthersWrite: what phones and servers write amounts to what they mean.
func TestReadsWhatOthersWrite(t *testing.T) {
	const asterisk = `<?xml version="1.0" encoding="UTF-8"?>
<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="0" state="full" entity="sip:1001@192.0.2.1">
 <dialog id="1001" direction="recipient"><state>%s</state></dialog>
</dialog-info>`
	const held = `<dialog id="1001"><state>confirmed</state><local><target uri="sip:1001@192.0.2.1"><param %s/></target></local></dialog>`
	hold := func(param string) string { return full(1, fmt.Sprintf(held, param)) }
	for _, c := range []struct {
		name, document string
		confirmed      int
		early          int
		held           bool
	}{
		{"asterisk, idle", fmt.Sprintf(asterisk, "terminated"), 0, 0, false},
		{"asterisk, ringing", fmt.Sprintf(asterisk, "early"), 0, 1, false},
		{"asterisk, in use", fmt.Sprintf(asterisk, "confirmed"), 1, 0, false},
		{"asterisk, on hold", hold(`pname="+sip.rendering" pval="no"`), 1, 0, true},
		{"pvalue", hold(`pname="sip.rendering" pvalue="NO"`), 1, 0, true},
		{"quoted", hold(`pname="&quot;+sip.rendering&quot;" pval="&quot;no&quot;"`), 1, 0, true},
		{"rendering", hold(`pname="+sip.rendering" pval="yes"`), 1, 0, false},
		{"the other side holds", full(1, strings.ReplaceAll(fmt.Sprintf(held, `pname="+sip.rendering" pval="no"`), "local", "remote")), 1, 0, false},
		{"idle", full(3), 0, 0, false},
		{"no ids", full(3, `<dialog><state>confirmed</state></dialog><dialog><state>confirmed</state></dialog><dialog><state>early</state></dialog>`), 2, 1, false},
		{"call-ids alone", full(3, `<dialog call-id="a"><state>Trying</state></dialog><dialog call-id="b"><state> PROCEEDING </state></dialog>`), 0, 2, false},
		{"several publishers, one id", full(3, in("a", "confirmed"), in("a", "terminated"), in("a", "early")), 1, 1, false},
		{"an unknown state", full(3, in("a", "parked"), `<dialog id="b"/>`), 0, 0, false},
		{"pua_dialoginfo's version", strings.Replace(full(3, in("a", "early")), `"3"`, `"00000000000"`, 1), 0, 1, false},
		{"no version", strings.Replace(full(3, in("a", "early")), `version="3"`, ``, 1), 0, 1, false},
		{"no state", strings.Replace(full(3, in("a", "early")), `state="full"`, ``, 1), 0, 1, false},
		{"no namespace", strings.Replace(full(3, in("a", "early")), `xmlns="urn:ietf:params:xml:ns:dialog-info"`, ``, 1), 0, 1, false},
		{"a prefix", `<d:dialog-info xmlns:d="urn:ietf:params:xml:ns:dialog-info" version="1" state="full" entity="sip:a@b">` +
			`<d:dialog id="a"><d:state>early</d:state></d:dialog><dialog id="b" xmlns="urn:x"><state>confirmed</state></dialog></d:dialog-info>`, 0, 1, false},
	} {
		var table dialoginfo.Table
		if err := table.Apply(read(t, c.document)); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		confirmed, early := table.Count()
		anyHeld := false
		for _, d := range table.Dialogs() {
			anyHeld = anyHeld || d.Held
		}
		if confirmed != c.confirmed || early != c.early || anyHeld != c.held {
			t.Errorf("%s: %d confirmed, %d early, held %v; want %d, %d, %v", c.name, confirmed, early, anyHeld, c.confirmed, c.early, c.held)
		}
		if table.Busy() != (c.confirmed > 0) || table.Ringing() != (c.confirmed == 0 && c.early > 0) {
			t.Errorf("%s: busy %v, ringing %v", c.name, table.Busy(), table.Ringing())
		}
	}
}

// TestKamailioRecorded follows two calls of one user as Kamailio 5.6.3 told of them: dialogs
// of several publications in one full document, and "Trying", later than "early".
func TestKamailioRecorded(t *testing.T) {
	want := []struct{ confirmed, early int }{{0, 1}, {0, 1}, {1, 0}, {1, 1}, {2, 0}, {1, 0}, {0, 0}}
	var table dialoginfo.Table
	for i, w := range want {
		body, err := os.ReadFile(fmt.Sprintf("testdata/kamailio-%d.xml", i+1))
		if err != nil {
			t.Fatal(err)
		}
		d := read(t, string(body))
		if err := table.Apply(d); err != nil {
			t.Fatal(err)
		}
		if confirmed, early := table.Count(); confirmed != w.confirmed || early != w.early || d.Entity != "sip:carol@pbx2.example" {
			t.Errorf("%d: %d confirmed, %d early of %s, want %+v", i+1, confirmed, early, d.Entity, w)
		}
	}
}

// TestReadRefuses: what is no such document, or more than is read, is an error that says so.
func TestReadRefuses(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"nothing", "", "no document"},
		{"another document", `<presence xmlns="urn:ietf:params:xml:ns:pidf"/>`, "<presence>"},
		{"another namespace", `<dialog-info xmlns="urn:x"/>`, "urn:x"},
		{"cut off", fmt.Sprintf(head, 1, "full"), "EOF"},
		{"many dialogs", full(1, strings.Repeat(in("a", "early"), 1001)), "1001 dialogs"},
		{"a partial without a version", strings.Replace(partial(3), `"3"`, `"x"`, 1), `version="x"`},
		{"a partial beyond 32 bits", partial(4294967296), `version="4294967296"`},
		{"long", full(1, strings.Repeat(" ", 2<<20)), "bytes"},
	} {
		if d, err := dialoginfo.Read([]byte(c.body)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q (read %.200v)", c.name, err, c.want, d)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(full(1, in("a", "confirmed"), in("b", "early"))), []byte(partial(2, in("a", "terminated"))))
	f.Add([]byte(full(1, `<dialog><state>confirmed</state></dialog>`)), []byte(partial(2, `<dialog><state>early</state></dialog>`)))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var table dialoginfo.Table
		for _, body := range [][]byte{first, second} {
			d, err := dialoginfo.Read(body)
			if err != nil {
				continue
			}
			if len(d.Dialogs) > dialoginfo.MaxDialogs {
				t.Errorf("%d dialogs", len(d.Dialogs))
			}
			if err := table.Apply(d); d.Full && err != nil {
				t.Errorf("a full document: %v", err)
			}
			confirmed, early := table.Count()
			if n := len(table.Dialogs()); confirmed+early > n || n > dialoginfo.MaxDialogs {
				t.Errorf("%d confirmed, %d early of %d", confirmed, early, n)
			}
		}
	})
}
