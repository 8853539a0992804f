package sippublish

import (
	"strings"
	"testing"

	"github.com/busylamp/busylamp/adapters/sipnet"
	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// TestOutboundProxy: requests go to the proxy, and name the server to it in a Route.
func TestOutboundProxy(t *testing.T) {
	t.Parallel()
	for server, want := range map[string]string{
		"sip:presence.invalid":                      "<sip:presence.invalid;lr;transport=udp>",
		"sip:presence.invalid:5070;transport=tcp":   "<sip:presence.invalid:5070;lr;transport=tcp>",
		"sip:[2001:db8::1]:5061;transport=tls":      "<sip:[2001:db8::1]:5061;lr;transport=tls>",
		"sip:192.0.2.1:5090;transport=udp":          "<sip:192.0.2.1:5090;lr;transport=udp>",
		"sip:[2001:db8::1];transport=tcp":           "<sip:[2001:db8::1];lr;transport=tcp>",
		"sip:pool-1.presence.invalid;transport=udp": "<sip:pool-1.presence.invalid;lr;transport=udp>",
	} {
		srv := siptest.New(t, "udp", "127.0.0.1:0", func(c siptest.Request) { c.Accept("t1") })
		p := newPublisher(t, srv.Addr(), "udp", func(c *Config) {
			var err error
			c.Proxy = c.Server
			if c.Server, err = sipnet.ParseTarget(server); err != nil {
				t.Fatal(err)
			}
		})
		accepted(t, p, initial)
		accepted(t, p, refresh)
		for _, c := range srv.All() {
			if got := c.Header("Route"); got != want || !strings.HasPrefix(c.StartLine(), "PUBLISH sip:alice@example.com ") {
				t.Errorf("%s: %s, Route %s, want %s", server, c.StartLine(), got, want)
			}
		}
		if hops := p.Status().Hops; len(hops) != 1 || hops[0].Address.String() != srv.Addr() {
			t.Errorf("%s: hops %+v", server, hops)
		}
	}
}

// TestAudioCodesDigest: in this profile too, the answer to a challenge is the same request
// with another number: Call-ID, From tag and body stay, and nothing comes or goes but the
// credentials.
func TestAudioCodesDigest(t *testing.T) {
	t.Parallel()
	srv := siptest.New(t, "tcp", "127.0.0.1:0", func(c siptest.Request) {
		if c.Header("Authorization") == "" {
			challenged("n1")(c)
			return
		}
		c.Accept("2545777538-1-1")
	})
	p := newPublisher(t, srv.Addr(), "tcp", asBusylamp("secret"), func(c *Config) { c.Profile = AudioCodes })
	accepted(t, p, initial)
	all := srv.All()
	if len(all) != 2 {
		t.Fatalf("%d transactions", len(all))
	}
	first, second := all[0], all[1]
	if first.Header("CSeq") != "1 PUBLISH" || second.Header("CSeq") != "2 PUBLISH" {
		t.Errorf("CSeq %s, then %s", first.Header("CSeq"), second.Header("CSeq"))
	}
	if first.Header("Via") == second.Header("Via") {
		t.Error("the branch is the same")
	}
	rest := func(c siptest.Request) (lines []string) {
		for _, h := range c.Headers() {
			if name, _, _ := strings.Cut(h, ":"); name != "Via" && name != "CSeq" && name != "Authorization" {
				lines = append(lines, h)
			}
		}
		return append(lines, c.Body())
	}
	if a, b := strings.Join(rest(first), "\n"), strings.Join(rest(second), "\n"); a != b {
		t.Errorf("first\n%s\nthen\n%s", a, b)
	}
}
