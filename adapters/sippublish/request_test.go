package sippublish

import (
	"encoding/xml"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/pidf"
	"github.com/busylamp/busylamp/adapters/sipnet"
	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// TestRequests holds each kind of PUBLISH to its whole header set, in order, and body.
func TestRequests(t *testing.T) {
	const (
		via    = `Via: SIP/2.0/%s %s;branch=z9hG4bK[.0-9A-Za-z]{20,};rport%s`
		token  = `[0-9A-Za-z]{16,}`
		common = `|From: <sip:alice@example.com>;tag=` + token + `|To: <sip:alice@example.com>|Call-ID: ` + token +
			`|CSeq: 1 PUBLISH|Contact: <sip:alice@%s;transport=%s>|Max-Forwards: 70|Event: presence|Expires: %s|User-Agent: busylamp/test`
	)
	rpid := func(a pidf.Activity) string {
		return string(pidf.RPID(pidf.Document{Entity: string(alice), Activity: a}))
	}
	for _, tc := range []struct {
		r             busylamp.Request
		expires, rest string
		body          string
	}{
		{initial, "600", `|Content-Type: application/pidf\+xml|Content-Length: %d`, rpid(pidf.OnThePhone)},
		{refresh, "600", `|SIP-If-Match: t1|Content-Length: %d`, ""},
		{modify, "600", `|SIP-If-Match: t2|Content-Type: application/pidf\+xml|Content-Length: %d`, rpid(pidf.Ringing)},
		{remove, "0", `|SIP-If-Match: t3|Content-Length: %d`, ""},
	} {
		for _, transport := range []string{"udp", "tcp"} {
			t.Run(tc.r.Kind.String()+"/"+transport, func(t *testing.T) {
				srv := siptest.New(t, transport, "127.0.0.1:0", func(c siptest.Request) { c.Accept("new") })
				p := newPublisher(t, srv.Addr(), transport)
				accepted(t, p, tc.r)
				got := srv.All()[0]
				want := fmt.Sprintf(via, strings.ToUpper(transport), regexp.QuoteMeta(got.From), map[string]string{"tcp": ";alias"}[transport]) +
					fmt.Sprintf(common, regexp.QuoteMeta(got.From), transport, tc.expires) + fmt.Sprintf(tc.rest, len(tc.body))
				if s := strings.Join(got.Headers(), "|"); !regexp.MustCompile("^" + want + "$").MatchString(s) {
					t.Errorf("headers\n%s\nwant\n%s", s, want)
				}
				if got.StartLine() != "PUBLISH sip:alice@example.com SIP/2.0" {
					t.Errorf("start line %q", got.StartLine())
				}
				if got.Body() != tc.body {
					t.Errorf("body %q, want %q", got.Body(), tc.body)
				}
			})
		}
	}
}

// TestFresh: what tells two requests apart is new for each of them.
func TestFresh(t *testing.T) {
	srv := siptest.New(t, "udp", "127.0.0.1:0", func(c siptest.Request) { c.Accept("t1") })
	p := newPublisher(t, srv.Addr(), "udp")
	seen := map[string]bool{}
	for _, r := range []busylamp.Request{initial, refresh, refresh, modify, remove} {
		accepted(t, p, r)
	}
	for _, c := range srv.All() {
		for _, v := range []string{c.Header("Via"), c.Header("From"), c.Header("Call-ID")} {
			if seen[v] {
				t.Errorf("%s twice", v)
			}
			seen[v] = true
		}
		if c.Header("CSeq") != "1 PUBLISH" {
			t.Errorf("CSeq %s", c.Header("CSeq"))
		}
	}
}

// uris are presentities with all that may stand in a user part.
func uris() []busylamp.Presentity {
	users := []string{"john%20doe", "%22quoted%22", "a;b=c", "a&b=c+d$e,f", "what?", "//slashes/", "+15551234;ext=7",
		"-_.!~*'()&=+$,;?/", "%25", "%C3%BCmlaut", "%3Cx%3E", "%40home", "%5Bx%5D", "*", strings.Repeat("u", 200)}
	var all []busylamp.Presentity
	for _, u := range users {
		all = append(all, busylamp.Presentity("sip:"+u+"@example.com"))
	}
	return append(all, "sip:alice@192.0.2.1", "sip:alice@[2001:db8::1]", "sip:alice@xn--bcher-kva.example")
}

// TestPresentityIsSentAsItIs: the server must see one user, wherever it looks.
func TestPresentityIsSentAsItIs(t *testing.T) {
	srv := siptest.New(t, "udp+tcp", "127.0.0.1:0", func(c siptest.Request) { c.Accept("t1") })
	p := newPublisher(t, srv.Addr(), "udp")
	for i, uri := range uris() {
		if canonical, err := busylamp.ParsePresentity(string(uri)); err != nil || canonical != uri {
			t.Fatalf("%s is no presentity: %s, %v", uri, canonical, err)
		}
		r := initial
		r.Presentity = uri
		accepted(t, p, r)
		c := srv.All()[i]
		var doc struct {
			Entity string `xml:"entity,attr"`
		}
		if err := xml.Unmarshal([]byte(c.Body()), &doc); err != nil {
			t.Fatal(err)
		}
		from, _, _ := strings.Cut(c.Header("From"), ";tag=")
		for _, got := range []string{strings.TrimSuffix(strings.TrimPrefix(c.StartLine(), "PUBLISH "), " SIP/2.0"),
			strings.Trim(from, "<>"), strings.Trim(c.Header("To"), "<>"), doc.Entity} {
			if got != string(uri) {
				t.Errorf("%s is sent as %s", uri, got)
			}
		}
	}
}

// TestNoPresentity: nothing that could end its line gets into a request.
func TestNoPresentity(t *testing.T) {
	p := newPublisher(t, "127.0.0.1:9", "udp")
	for _, uri := range []busylamp.Presentity{"", "alice", "sip:alice", "sip:@example.com", "sip:alice@", "tel:", "mailto:alice@example.com", "tel:+1\r\nX: y",
		"sip:a\r\nX: y@example.com", "sip:a b@example.com", "sip:a>@example.com", "sip:\u00fc@example.com"} {
		r := initial
		r.Presentity = uri
		if o := p.Publish(t.Context(), r); o.Result != busylamp.Refused || !strings.Contains(o.Reason, "presentity") {
			t.Errorf("%q: %+v", uri, o)
		}
	}
}

// TestAudioCodes compares with the requests that the vendor's manual prints.
func TestAudioCodes(t *testing.T) {
	srv := siptest.New(t, "udp", "127.0.0.1:0", func(c siptest.Request) { c.Accept("2545777538-1-1") })
	p := newPublisher(t, srv.Addr(), "udp", func(c *Config) { c.Profile = AudioCodes })
	first, last := initial, remove
	first.Presentity, last.Presentity = "sip:john.doe@sfb.example", "sip:john.doe@sfb.example"
	last.Tag = accepted(t, p, first).Tag
	accepted(t, p, last)

	names := func(c siptest.Request) []string {
		var all []string
		for _, h := range c.Headers() {
			name, _, _ := strings.Cut(h, ":")
			// The manual leaves these out; no request can.
			if !slices.Contains([]string{"Via", "Call-ID", "Max-Forwards", "User-Agent"}, name) {
				all = append(all, name)
			}
		}
		return all
	}
	calls := srv.All()
	// The manual prints Contact in the second alone; its other examples are cut, too.
	if got, want := names(calls[0]), []string{"From", "To", "CSeq", "Contact", "Event", "Expires", "Content-Type", "Content-Length"}; !slices.Equal(got, want) {
		t.Errorf("initial has %q, want %q", got, want)
	}
	if got, want := names(calls[1]), []string{"From", "To", "CSeq", "Contact", "Event", "Expires", "SIP-If-Match", "Content-Length"}; !slices.Equal(got, want) {
		t.Errorf("remove has %q, want %q", got, want)
	}
	if tag := calls[1].Header("SIP-If-Match"); tag != "2545777538-1-1" {
		t.Errorf("SIP-If-Match %q", tag)
	}
	want := string(pidf.AudioCodes(pidf.Document{Entity: "sip:john.doe@sfb.example", DisplayName: "john.doe"}))
	if got := calls[0].Body(); got != want {
		t.Errorf("body\n%s\nwant\n%s", got, want)
	}
}

func TestDisplayName(t *testing.T) {
	for _, tc := range []struct{ user, name, want string }{
		{"john.doe", "John Doe", "John Doe"},
		{"john.doe", "", "john.doe"},
		{"john%20%22j%22", "", "john &#34;j&#34;"},
		{"%FF", "", "\uFFFD"},
	} {
		r := initial
		r.Presentity, r.DisplayName = busylamp.Presentity("sip:"+tc.user+"@example.com"), tc.name
		var doc, want struct {
			Name string `xml:"display-name"`
		}
		if err := xml.Unmarshal((&Publisher{cfg: Config{Profile: AudioCodes}}).appendBody(nil, r), &doc); err != nil {
			t.Fatal(err)
		}
		xml.Unmarshal([]byte("<x><display-name>"+tc.want+"</display-name></x>"), &want)
		if doc != want {
			t.Errorf("%s, %q: %q, want %q", tc.user, tc.name, doc.Name, want.Name)
		}
	}
}

// TestStates: every state that is published has an activity, and is told from a call.
func TestStates(t *testing.T) {
	p := &Publisher{cfg: Config{Profile: RPID}}
	for s := busylamp.Unknown; s <= busylamp.Forwarded; s++ {
		r := initial
		r.State = s
		published := s.Published() || s == busylamp.Available // that of an application
		if _, ok := activities[s]; ok != published {
			t.Errorf("%v: has an activity: %v", s, ok)
		}
		call := s == busylamp.OnThePhone || s == busylamp.OtherCall
		if published && strings.Contains(string(p.appendBody(nil, r)), "on-the-phone") != call {
			t.Errorf("%v: %s", s, p.appendBody(nil, r))
		}
	}
}

// What a state is read back as is what SeenAs says, or the state itself.
func TestSeenAs(t *testing.T) {
	activities := map[string]busylamp.State{"on-the-phone": busylamp.OnThePhone, "meeting": busylamp.Meeting, "presenting": busylamp.Presenting}
	availabilities := map[pidf.Availability]busylamp.State{pidf.SeenAvailable: busylamp.Available, pidf.SeenAway: busylamp.Away,
		pidf.SeenBusy: busylamp.Busy, pidf.SeenDoNotDisturb: busylamp.DoNotDisturb}
	for _, profile := range []Profile{RPID, AudioCodes} {
		p := &Publisher{cfg: Config{Profile: profile}}
		for s := busylamp.Away; s <= busylamp.Forwarded; s++ {
			r := initial
			r.State = s
			seen, err := pidf.Read(p.appendBody(nil, r))
			if err != nil {
				t.Fatal(err)
			}
			sum, ok := seen.Summary(time.Now())
			got := availabilities[sum.Availability]
			if a, is := activities[sum.Activity]; is {
				got = a
			}
			same := got == s || s == busylamp.OtherCall && got == busylamp.OnThePhone
			if !ok || !same && got != profile.SeenAs(s) {
				t.Errorf("%s: %v reads back as %v (%+v), not as %v", profile, s, got, sum, profile.SeenAs(s))
			}
		}
	}
}

// A number is published as a user of a host that the server serves (RFC 3261 section 19.1.6).
func TestNumber(t *testing.T) {
	p := newPublisher(t, "127.0.0.1:9", "udp", func(c *Config) { c.NumbersAt = "2001:db8::1" })
	r := initial
	r.Presentity = "tel:+31612345678"
	var d sipnet.Draft
	if err := p.write(&d, r); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("PUBLISH %s SIP/2.0\r\n%s%s", d.URI, d.Tail, d.Body)
	for _, want := range []string{"PUBLISH sip:+31612345678@[2001:db8::1];user=phone SIP/2.0", `entity="tel:+31612345678"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestExpiresIsNeverZeroByRounding(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0", time.Millisecond: "1", 1500 * time.Millisecond: "2", time.Hour: "3600"} {
		r := refresh
		r.Expires = d
		var req sipnet.Draft
		if err := (&Publisher{}).write(&req, r); err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(req.Tail), "Expires: ")
		if got, _, _ := strings.Cut(rest, "\r\n"); got != want {
			t.Errorf("%v: Expires %s, want %s", d, got, want)
		}
		if strings.Contains(string(req.Tail), "User-Agent") {
			t.Error("an empty User-Agent is sent")
		}
	}
}

func TestIPv6(t *testing.T) {
	probe, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		missing(t, fmt.Sprintf("no IPv6 loopback (%v): sysctl net.ipv6.conf.lo.disable_ipv6=0", err))
	}
	probe.Close()
	for _, transport := range []string{"udp", "tcp"} {
		srv := siptest.New(t, transport, "[::1]:0", func(c siptest.Request) { c.Accept("t1") })
		accepted(t, newPublisher(t, srv.Addr(), transport), initial)
		if c := srv.All()[0]; !strings.Contains(c.Header("Via"), " "+c.From+";") {
			t.Errorf("Via %s, want %s", c.Header("Via"), c.From)
		}
	}
}

// TestRefreshBody: where it is wanted, a refresh repeats the body.
func TestRefreshBody(t *testing.T) {
	srv := siptest.New(t, "udp", "127.0.0.1:0", func(c siptest.Request) { c.Accept("new") })
	p := newPublisher(t, srv.Addr(), "udp", func(c *Config) { c.RefreshBody = true })
	r := refresh
	r.State = busylamp.OnThePhone
	accepted(t, p, r)
	got := srv.All()[0]
	want := string(pidf.RPID(pidf.Document{Entity: string(alice), Activity: pidf.OnThePhone}))
	if got.Body() != want || !strings.Contains(got.Raw, "\r\nSIP-If-Match: t1\r\n") {
		t.Errorf("got %s", got.Raw)
	}
}
