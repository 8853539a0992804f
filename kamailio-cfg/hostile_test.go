package kamailiocfg

import (
	"fmt"
	"strings"
	"testing"
)

// hostile is a call with odd header fields and what its line should say; "" is as usual.
// A call that Kamailio itself refuses, or has no dialog for, gives no line.
type hostile struct {
	name string
	oddCall
	caller, callee, callID string
	refused                bool
	// huge is what one Kamailio hands out whole (so it is cut) and another, with smaller
	// buffers, not at all: 5.6 refuses the call or has nothing in the field.
	huge bool
}

var hostileCalls = []hostile{
	{name: "a display name in quotes", oddCall: oddCall{from: `"a \"quoted\" \\ name" <sip:alice@example.com>;tag=1`}},
	{name: "a quote and a backslash", oddCall: oddCall{from: `<sip:a"b\c@example.com>;tag=1`}, refused: true},
	{name: "JSON in From", oddCall: oddCall{from: `<sip:","epoch":"1@example.com>;tag=1`}, refused: true},
	{name: "no UTF-8 in From", oddCall: oddCall{from: "<sip:al\xff\xfeice@example.com>;tag=1"}, caller: "sip:al\xff\xfeice@example.com"},
	{name: "control characters in From", oddCall: oddCall{from: "<sip:al\x01\x7fice@example.com>;tag=1"}, caller: "sip:al\x01\x7fice@example.com"},
	{name: "a tab in From", oddCall: oddCall{from: "<sip:al\tice@example.com>;tag=1"}, refused: true},
	{name: "a zero byte in From", oddCall: oddCall{from: "<sip:al\x00ice@example.com>;tag=1"}, refused: true},
	{name: "a space in From", oddCall: oddCall{from: "<sip:a b@example.com>;tag=1"}, refused: true},
	{name: "a folded From", oddCall: oddCall{from: "<sip:a\r\n b@example.com>;tag=1"}, refused: true},
	{name: "no URI in From", oddCall: oddCall{from: "<>;tag=1"}, refused: true},
	{name: "no tag in From", oddCall: oddCall{from: "<sip:alice@example.com>"}, refused: true},
	{name: "a percent sign and variables in From", oddCall: oddCall{from: "<sip:%s$var(x)$ru@example.com>;tag=1"}, caller: "sip:%s$var(x)$ru@example.com"},
	{name: "a user of 1,000 bytes", oddCall: oddCall{from: "<sip:" + long(1000) + "@example.com>;tag=1"}, caller: "sip:" + long(252)},
	{name: "a user of 9,000 bytes", oddCall: oddCall{from: "<sip:" + long(9000) + "@example.com>;tag=1"}, caller: "sip:" + long(252), huge: true},
	{name: "a tel URI", oddCall: oddCall{from: "<tel:+123>;tag=1"}, caller: "tel:+123"},
	{name: "To of 9,000 bytes", oddCall: oddCall{to: "<sip:" + long(9000) + "@example.com>"}},
	{name: "no URI in To", oddCall: oddCall{to: "<>"}, refused: true},
	{name: "an empty Call-ID", oddCall: oddCall{callID: "-"}, callID: "-"},
	{name: "JSON in the Call-ID", oddCall: oddCall{callID: `","epoch":"1`}},
	{name: "RFC 4475's Call-ID", oddCall: oddCall{callID: `intmeth.word%ZK-!.*_+'@word` + "`~)(><:\\/\"][?}{"}},
	{name: "variables in the Call-ID", oddCall: oddCall{callID: `x\"y'{}$dlg(callid)$var(x)%s`}},
	{name: "no UTF-8 in the Call-ID", oddCall: oddCall{callID: "\xff\xfe\x01"}},
	{name: "a Call-ID of 128 bytes", oddCall: oddCall{callID: long(128)}},
	{name: "a Call-ID of 6,500 bytes", oddCall: oddCall{callID: long(6500)}, callID: long(128)},
	{name: "a Call-ID of 9,000 bytes", oddCall: oddCall{callID: long(9000)}, callID: long(128), huge: true},
	{name: "a Request-URI of 400 bytes", oddCall: oddCall{uri: "sip:bob@example.com;x=" + long(378)}, callee: "sip:bob@example.com;x=" + long(234)},
	{name: "a Request-URI of 9,000 bytes", oddCall: oddCall{uri: "sip:bob@example.com;x=" + long(9000)}, callee: "sip:bob@example.com;x=" + long(234), huge: true},
	{name: "a quote and no UTF-8 in the Request-URI", oddCall: oddCall{uri: "sip:bob:pw@example.com;x=\"\xff"}, callee: "sip:bob:pw@example.com;x=\"\xff"},
	{name: "the longest line", oddCall: oddCall{from: "<sip:" + long(999) + "@example.com>;tag=1",
		uri: "sip:bob@example.com;y=" + long(378), callID: long(6000)},
		caller: "sip:" + long(252), callee: "sip:bob@example.com;y=" + long(234), callID: long(128)},
}

func long(n int) string { return strings.Repeat("x", n) }

// withDefaults fills in what is as usual.
func (h hostile) withDefaults(i int) hostile {
	set := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	set(&h.uri, "sip:bob@example.com")
	set(&h.from, "<sip:alice@example.com>;tag=1")
	set(&h.to, "<sip:bob@example.com>")
	set(&h.oddCall.callID, fmt.Sprint("call-", i))
	set(&h.caller, "sip:alice@example.com")
	set(&h.callee, "sip:bob@example.com")
	set(&h.callID, h.oddCall.callID)
	if h.oddCall.callID == "-" {
		h.oddCall.callID = ""
	}
	return h
}

// TestHostileCalls: whatever a caller writes, every line has its fields, says what it
// should, and no number is lost (settled checks that).
func TestHostileCalls(t *testing.T) {
	p := sample(t)
	c := p.listen(t)
	p.answerer(t, "bob")
	var want []hostile
	for i, h := range hostileCalls {
		h = h.withDefaults(i)
		status := h.run(t, p)
		if h.refused != (status != 200) && !h.huge {
			t.Errorf("%s: status %d, want it to be refused: %v", h.name, status, h.refused)
		}
		if status == 200 {
			want = append(want, h)
		}
	}
	var got []line
	ends := 0
	for _, l := range c.settled(t, 0) {
		if l.kind == "x" {
			ends++
		} else {
			got = append(got, l)
		}
	}
	if len(got) != len(want) || ends != len(want) {
		t.Fatalf("%d calls began and %d ended, want %d", len(got), ends, len(want))
	}
	for i, h := range want {
		same := func(got, want string) bool { return got == strings.TrimPrefix(want, "-") || h.huge && got == "" }
		if l := got[i]; !same(l.caller, h.caller) || !same(l.callee, h.callee) || !same(l.callID, h.callID) {
			t.Errorf("%s: line %q %q %q", h.name, l.caller, l.callee, l.callID)
		}
	}
}
