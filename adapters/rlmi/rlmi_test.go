package rlmi_test

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/busylamp/busylamp/adapters/rlmi"
)

// piece is a part of a multipart document.
type piece struct{ id, contentType, body string }

// related is a multipart/related document whose boundary is b.
func related(b string, pieces ...piece) string {
	var s strings.Builder
	for _, p := range pieces {
		fmt.Fprintf(&s, "--%s\r\nContent-Transfer-Encoding: binary\r\nContent-ID: <%s>\r\nContent-Type: %s\r\n\r\n%s\r\n",
			b, p.id, p.contentType, p.body)
	}
	return s.String() + "--" + b + "--\r\n"
}

// list is an RLMI document with resources.
func list(version int, resources string) string {
	return fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?><list xmlns="urn:ietf:params:xml:ns:rlmi"`+
		` uri="sip:team@example.com" version="%d" fullState="true">%s</list>`, version, resources)
}

func rootPiece(resources string) piece {
	return piece{"root@example.com", `application/rlmi+xml;charset="UTF-8"`, list(0, resources)}
}

const contentType = `multipart/related;type="application/rlmi+xml";start="<root@example.com>";boundary="b"`

func read(t *testing.T, contentType, body string) rlmi.List {
	t.Helper()
	l, err := rlmi.Read(contentType, []byte(body))
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, contentType, body)
	}
	return l
}

func recorded(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// kamailioType is what rls of 5.6.3 writes.
const kamailioType = `multipart/related;type="application/rlmi+xml";start="<1795296676.sip:team@pbx2.example.608529506>";boundary="%s"`

// TestKamailioRecorded: what Kamailio 5.6.3's rls sends: first the list without instances, then
// what has changed, with the document.
func TestKamailioRecorded(t *testing.T) {
	l := read(t, fmt.Sprintf(kamailioType, "yvSBTBDcHq2BXU2qChoT1woX"), recorded(t, "kamailio-full.txt"))
	if l.URI != "sip:team@pbx2.example" || l.Version != 1 || !l.Full || len(l.Resources) != 3 ||
		l.Resources[2].URI != "sip:nobody@pbx2.example" || len(l.Resources[0].Instances) != 0 {
		t.Errorf("read %+v", l)
	}
	l = read(t, fmt.Sprintf(kamailioType, "n6f2MTRoeqp2H5EjRjkM4GPp"), recorded(t, "kamailio-changed.txt"))
	want := []rlmi.Resource{{URI: "sip:carol@pbx2.example", Instances: []rlmi.Instance{
		{ID: "Scf8UhwQ", State: rlmi.Active, CID: "1795296679.sip:carol@pbx2.example.2123745401"}}}}
	if l.Version != 2 || l.Full || !reflect.DeepEqual(l.Resources, want) {
		t.Errorf("read %+v", l)
	}
	part, ok := l.Part(want[0].Instances[0].CID)
	if !ok || part.ContentType != "application/pidf+xml" || !strings.HasPrefix(string(part.Body), "<?xml") ||
		!strings.HasSuffix(strings.TrimSpace(string(part.Body)), "</presence>") {
		t.Errorf("part %v: %s\n%s", ok, part.ContentType, part.Body)
	}
}

// TestReadKeepsEverything reads a list with all that is read of one.
func TestReadKeepsEverything(t *testing.T) {
	l := read(t, contentType, related("b", rootPiece(`<name xml:lang="en">Team</name>
		<resource uri="sip:bob@example.com"><name xml:lang="en">Bob Smith</name><name xml:lang="de">Bob Schmidt</name>
			<instance id="1" state="active" cid="bob@example.com"/>
			<instance id="2" state="Pending"/></resource>
		<resource uri="sip:dave@example.com"><instance id="3" state="terminated" reason="Rejected" cid=""/></resource>
		<resource uri="sip:ed@example.com"/>
		<x:resource xmlns:x="urn:x" uri="sip:x@example.com"/>
		<resource uri="sip:jim@example.com"><instance id="4" state="resting" cid="lost"/></resource>`),
		piece{"bob@example.com", "application/pidf+xml", "<presence/>"}))
	want := []rlmi.Resource{
		{URI: "sip:bob@example.com", Name: "Bob Smith", Instances: []rlmi.Instance{
			{ID: "1", State: rlmi.Active, CID: "bob@example.com"}, {ID: "2", State: rlmi.Pending}}},
		{URI: "sip:dave@example.com", Instances: []rlmi.Instance{{ID: "3", State: rlmi.Terminated, Reason: "rejected"}}},
		{URI: "sip:ed@example.com"},
		{URI: "sip:jim@example.com", Instances: []rlmi.Instance{{ID: "4", CID: "lost"}}},
	}
	if !reflect.DeepEqual(l.Resources, want) {
		t.Errorf("got\n%+v\nwant\n%+v", l.Resources, want)
	}
	if p, ok := l.Part("bob@example.com"); !ok || p.ContentType != "application/pidf+xml" || string(p.Body) != "<presence/>" {
		t.Errorf("%v %+v", ok, p)
	}
	for _, cid := range []string{"", "lost"} {
		if p, ok := l.Part(cid); ok {
			t.Errorf("a part %q: %+v", cid, p)
		}
	}
}

// TestReadsWhatOthersWrite: ways to write the same list.
func TestReadsWhatOthersWrite(t *testing.T) {
	bob := `<resource uri="sip:bob@example.com"><instance id="1" state="active" cid="%s"/></resource>`
	part := piece{"bob@example.com", "application/pidf+xml", "<presence/>"}
	plain := related("b", rootPiece(fmt.Sprintf(bob, "bob@example.com")), part)
	for _, c := range []struct{ name, contentType, body string }{
		{"plain", contentType, plain},
		{"upper case, white space", `Multipart/Related ; TYPE = "application/rlmi+xml" ;start= "<root@example.com>"; Boundary = "b" ; b`, plain},
		{"quoted pairs", `multipart/related;boundary="\b";start="<root\@example.com>"`, plain},
		{"parameters twice", contentType + `;boundary="c"`, plain},
		{"no start", `multipart/related;type="application/rlmi+xml";boundary="b"`, plain},
		{"a start that is not there", `multipart/related;start="<x>";boundary="b"`, plain},
		{"the root last", contentType, related("b", part, rootPiece(fmt.Sprintf(bob, "bob@example.com")))},
		{"a cid in brackets", contentType, related("b", rootPiece(fmt.Sprintf(bob, "&lt;bob@example.com>")), part)},
		{"a cid with its scheme", contentType, related("b", rootPiece(fmt.Sprintf(bob, "cid:bob@example.com")), part)},
		{"a Content-ID without brackets", contentType, strings.Replace(plain, "<bob@example.com>", "bob@example.com", 1)},
		{"LF", contentType, strings.ReplaceAll(plain, "\r\n", "\n")},
		{"words around", contentType, "This is a list.\r\n\r\n" + plain + "\r\nIt ends.\r\n"},
		{"no encoding", contentType, strings.ReplaceAll(plain, "Content-Transfer-Encoding: binary\r\n", "")},
		{"a Content-ID twice", contentType, related("b", rootPiece(fmt.Sprintf(bob, "bob@example.com")), part,
			piece{"bob@example.com", "text/plain", "no"})},
	} {
		l, err := rlmi.Read(c.contentType, []byte(c.body))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if len(l.Resources) != 1 || len(l.Resources[0].Instances) != 1 {
			t.Errorf("%s: read %+v", c.name, l)
			continue
		}
		if p, ok := l.Part(l.Resources[0].Instances[0].CID); !ok || string(p.Body) != "<presence/>" {
			t.Errorf("%s: part %v %+v", c.name, ok, p)
		}
	}
	if l := read(t, "application/rlmi+xml;charset=UTF-8", list(3, fmt.Sprintf(bob, ""))); len(l.Resources) != 1 || l.Version != 3 {
		t.Errorf("without a multipart: %+v", l)
	}
}

// TestListInAList: one level takes the place of the list; one within that, and one that cannot
// be read, stay what they are and do not cost the others theirs.
func TestListInAList(t *testing.T) {
	resource := func(name string) string {
		return fmt.Sprintf(`<resource uri="sip:%[1]s@example.com"><instance id="%[1]s" state="active" cid="%[1]s"/></resource>`, name)
	}
	nested := func(name, resources string, more ...piece) piece {
		return piece{name, `multipart/related;type="application/rlmi+xml";start="<root@example.com>";boundary="` + name + `"`,
			related(name, append([]piece{rootPiece(resources)}, more...)...)}
	}
	l := read(t, contentType, related("b", rootPiece(resource("ann")+resource("inner")+resource("broken")+resource("zoe")),
		piece{"ann", "application/pidf+xml", "ann"},
		nested("inner", resource("bob")+resource("deep"), piece{"bob", "application/pidf+xml", "bob"}, nested("deep", resource("cy"))),
		piece{"broken", `multipart/related;boundary="broken"`, "nothing"},
		piece{"zoe", "application/pidf+xml", "zoe"}))
	var got []string
	for _, r := range l.Resources {
		p, _ := l.Part(r.Instances[0].CID)
		got = append(got, r.URI+" "+strings.SplitN(p.ContentType, ";", 2)[0])
	}
	want := []string{"sip:ann@example.com application/pidf+xml", "sip:bob@example.com application/pidf+xml",
		"sip:deep@example.com multipart/related", "sip:broken@example.com multipart/related", "sip:zoe@example.com application/pidf+xml"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestListNamedOften: a list that many resources name is read once, and no list becomes more
// than is read by the lists in it.
func TestListNamedOften(t *testing.T) {
	inner := func(n int) piece {
		return piece{"in", `multipart/related;boundary="in"`, related("in", rootPiece(strings.Repeat(`<resource uri="x"/>`, n)))}
	}
	named := `<resource uri="sip:in@example.com"><instance id="1" state="active" cid="in"/></resource>`
	l := read(t, contentType, related("b", rootPiece(strings.Repeat(named, 4000)), inner(1000)))
	if len(l.Resources) != 4999 {
		t.Errorf("%d resources, want 1000 of the list and 3999 that name it", len(l.Resources))
	}
	others := strings.Repeat(`<resource uri="y"/>`, 4001)
	for _, resources := range []string{others + named, named + others} {
		_, err := rlmi.Read(contentType, []byte(related("b", rootPiece(resources), inner(1000))))
		if err == nil || !strings.Contains(err.Error(), "more than 5000 resources") {
			t.Errorf("5001 resources: %v", err)
		}
	}
}

// many is a list of n resources, each with a document of a size.
func many(n, size int) string {
	var resources strings.Builder
	pieces := make([]piece, 1, n+1)
	for i := range n {
		cid := fmt.Sprintf("%d.user%d@example.com", i, i)
		fmt.Fprintf(&resources, `<resource uri="sip:user%d@example.com"><name>User %d</name><instance id="i%d" state="active" cid="%s"/></resource>`, i, i, i, cid)
		pieces = append(pieces, piece{cid, "application/pidf+xml", strings.Repeat("x", size)})
	}
	pieces[0] = rootPiece(resources.String())
	return related("b", pieces...)
}

// TestThousandResourcesFit: with 3 KiB each, and 5,000 with less.
func TestThousandResourcesFit(t *testing.T) {
	for _, c := range []struct{ n, size int }{{1000, 3 << 10}, {5000, 300}} {
		l := read(t, contentType, many(c.n, c.size))
		for i, r := range l.Resources {
			if p, ok := l.Part(r.Instances[0].CID); !ok || len(p.Body) != c.size {
				t.Fatalf("%d: %v, %d bytes", i, ok, len(p.Body))
			}
		}
		if len(l.Resources) != c.n {
			t.Errorf("%d of %d resources", len(l.Resources), c.n)
		}
	}
}

// TestReadRefuses: what is no list, or more of one than is read, is an error that says so.
func TestReadRefuses(t *testing.T) {
	whole := related("b", rootPiece(""))
	for _, c := range []struct{ name, contentType, body, want string }{
		{"another type", "application/pidf+xml", whole, `"application/pidf+xml"`},
		{"another multipart", strings.Replace(contentType, "related", "mixed", 1), whole, "multipart/mixed"},
		{"no type", "", whole, "Content-Type"},
		{"no boundary", "multipart/related", whole, "boundary"},
		{"another boundary", strings.Replace(contentType, `"b"`, `"c"`, 1), whole, "EOF"},
		{"nothing", contentType, "", "EOF"},
		{"no part", contentType, "--b--\r\n", "EOF"},
		{"cut off", contentType, whole[:len(whole)-20], "EOF"},
		{"no root", contentType, related("b", piece{"x", "application/pidf+xml", "<presence/>"}), `"application/pidf+xml"`},
		{"another root", contentType, strings.ReplaceAll(whole, "<list", "<lists"), "XML"},
		{"another namespace", contentType, strings.ReplaceAll(whole, "ns:rlmi", "ns:x"), "ns:x"},
		{"no version", contentType, strings.ReplaceAll(whole, `version="0"`, `version="-1"`), `version="-1"`},
		{"encoded", contentType, strings.ReplaceAll(whole, "binary", "base64"), "base64"},
		{"many resources", contentType, related("b", rootPiece(strings.Repeat(`<resource uri="x"/>`, 5001))), "5001 resources"},
		{"many parts", contentType, related("b", append([]piece{rootPiece("")}, make([]piece, 5001)...)...), "5001 parts"},
		{"long", contentType, many(1, 4<<20), "bytes"},
	} {
		if l, err := rlmi.Read(c.contentType, []byte(c.body)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q (read %.200v)", c.name, err, c.want, l)
		}
	}
}

// TestOrder: full documents may go on anyhow, partial ones one by one.
func TestOrder(t *testing.T) {
	full, partial := true, false
	var o rlmi.Order
	for i, c := range []struct {
		full    bool
		version uint32
		err     error
	}{
		{partial, 1, rlmi.ErrGap}, {partial, 2, rlmi.ErrGap},
		{full, 1, nil}, {partial, 2, nil}, {partial, 3, nil}, {full, 9, nil}, {partial, 10, nil},
		{partial, 12, rlmi.ErrGap}, {partial, 13, rlmi.ErrGap}, {full, 0, nil}, {partial, 1, nil}, {partial, 1, rlmi.ErrGap},
		{full, 1<<32 - 1, nil}, {partial, 0, nil},
	} {
		if err := o.Next(rlmi.List{Full: c.full, Version: c.version}); !errors.Is(err, c.err) {
			t.Errorf("%d: version %d, full %v: %v, want %v", i, c.version, c.full, err, c.err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(contentType, []byte(related("b", rootPiece(`<resource uri="a"><instance id="1" state="active" cid="c"/></resource>`),
		piece{"c", contentType, related("b", rootPiece(""))})))
	f.Add(`multipart/related; boundary = "\b"; start`, []byte("--b\n\n--b--"))
	f.Add("application/rlmi+xml", []byte(list(1, "")))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		l, err := rlmi.Read(contentType, body)
		if err != nil {
			return
		}
		if len(l.Resources) > rlmi.MaxResources {
			t.Errorf("%d resources", len(l.Resources))
		}
		for _, r := range l.Resources {
			for _, i := range r.Instances {
				if _, ok := l.Part(i.CID); ok && i.CID == "" {
					t.Error("a part without a name")
				}
			}
		}
	})
}
