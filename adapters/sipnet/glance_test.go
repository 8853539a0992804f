package sipnet

import (
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
)

// plainAnswer is an answer as presence servers give it.
const plainAnswer = "SIP/2.0 200 OK\r\n" +
	"Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKabcdefghijklmnopqrstuv01;rport=5070;received=127.0.0.1\r\n" +
	"From: <sip:alice@example.com>;tag=t1\r\nTo: <sip:alice@example.com>;tag=t2\r\nCall-ID: c1\r\n" +
	"CSeq: 1 PUBLISH\r\nExpires: 600\r\nSIP-ETag: a.1700000000.1234.5.0\r\nServer: kamailio (5.6.3)\r\nContent-Length: 0\r\n\r\n"

// glanceSeeds are answers that glance takes, and ones that it leaves to the parser.
var glanceSeeds = []struct {
	name, old, new string
	taken          bool
}{
	{"plain", "", "", true},
	{"202", "200 OK", "202 Accepted", true},
	{"a body", "Content-Length: 0\r\n\r\n", "Content-Length: 3\r\n\r\nabc", true},
	{"no tag", "SIP-ETag: a.1700000000.1234.5.0\r\n", "", true},
	{"not 2xx", "200 OK", "412 Conditional Request Failed", false},
	{"other letters", "SIP-ETag", "sip-etag", false},
	{"short", "Via:", "v:", false},
	{"short length", "Content-Length", "l", false},
	{"folded", "branch=", "x=y;\r\n branch=", false},
	{"folded tag", "SIP-ETag: ", "SIP-ETag:\r\n ", false},
	{"two tags", "Expires: 600", "SIP-ETag: b", false},
	{"two Vias", "From:", "Via: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom:", false},
	{"Vias in one", "received=127.0.0.1", "x, SIP/2.0/UDP h;branch=z9hG4bKx", false},
	{"foreign branch", "z9hG4bK", "z9hg4bK", false},
	{"no length", "Content-Length: 0\r\n", "", false},
	{"cut body", "Content-Length: 0", "Content-Length: 4", false},
	{"bare line ends", "\r\n", "\n", false},
	{"space before the colon", "Via:", "Via :", false},
	{"no CSeq", "CSeq: 1 PUBLISH\r\n", "", false},
	{"no end", "\r\n\r\n", "\r\n", false},
}

// TestGlance: what is plain is read without a parser, and says the same; the rest is left to
// that.
func TestGlance(t *testing.T) {
	for _, tc := range glanceSeeds {
		text := strings.ReplaceAll(plainAnswer, tc.old, tc.new)
		if tc.old == "" {
			text = plainAnswer
		}
		if _, ok := glance([]byte(text)); ok != tc.taken {
			t.Errorf("%s: taken %v, want %v\n%s", tc.name, ok, tc.taken, text)
		}
		sameAsParser(t, []byte(text))
	}
}

// sameAsParser holds what glance takes to what the parser says of it.
func sameAsParser(t *testing.T, b []byte) {
	t.Helper()
	g, ok := glance(b)
	if !ok {
		return
	}
	msg, n, err := sip.NewParser().Parse(b, true)
	if err != nil {
		return // glance is content with fewer headers
	}
	res, ok := msg.(*sip.Response)
	if !ok || res.Via() == nil || res.CSeq() == nil {
		t.Fatalf("%q is %v", b, msg)
	}
	value, found := res.Via().Params.Get("branch") // not of a Via that it only half understands
	if want := cookie + string(g.branch[:]); found && value != want {
		t.Errorf("branch %q, the parser's %q", want, value)
	}
	if got := res.CSeq(); string(got.MethodName) != string(g.method) || got.SeqNo != g.number {
		t.Errorf("CSeq %d %s, the parser's %s", g.number, g.method, got.Value())
	}
	mine := seen(&g)
	if mine.StatusCode != res.StatusCode || mine.Reason != res.Reason || g.length != n {
		t.Errorf("%d %q of %d bytes, the parser's %d %q of %d", mine.StatusCode, mine.Reason, g.length, res.StatusCode, res.Reason, n)
	}
	for _, name := range []string{"SIP-ETag", "Expires"} {
		a, b := mine.GetHeader(name), res.GetHeader(name)
		if (a == nil) != (b == nil) || a != nil && a.Value() != b.Value() {
			t.Errorf("%s %v, the parser's %v", name, a, b)
		}
	}
}

// seen is what a glimpse writes, over another's.
func seen(g *glimpse) *sip.Response {
	res := sip.NewResponse(0, "")
	(&glimpse{status: 202, reason: []byte("Accepted"), etag: []byte("another"), expires: []byte("1")}).response(res)
	g.response(res)
	return res
}

// FuzzGlance looks for an answer that glance reads otherwise than the parser.
func FuzzGlance(f *testing.F) {
	for _, tc := range glanceSeeds {
		if tc.old == "" {
			f.Add([]byte(plainAnswer))
			continue
		}
		f.Add([]byte(strings.ReplaceAll(plainAnswer, tc.old, tc.new)))
	}
	f.Fuzz(func(t *testing.T, b []byte) { sameAsParser(t, b) })
}
