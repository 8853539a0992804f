package sipnet

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// TestTrace: all that goes over the wire for a request is told, in its order, and nothing
// of it lets anybody else be the user.
func TestTrace(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			const secret = "s3cr3t"
			n := 0
			srv := siptest.New(t, transport, "127.0.0.1:0", func(c siptest.Request) {
				switch n++; {
				case n == 1 && transport == "udp": // lost
				case strings.Contains(c.Raw, "Authorization"):
					c.Reply(c.Answer("200 OK", `Authentication-Info: nextnonce="`+secret+`", qop=auth`))
					c.Reply(c.Answer("200 OK", "SIP-ETag: twice"))
				default:
					c.Reply(c.Answer("100 Trying"))
					c.Reply(c.Answer("100 Trying"))
					c.Reply(c.Answer("401 Unauthorized", `WWW-Authenticate: Digest realm="r", qop="auth", nonce="`+secret+`", opaque="`+secret+`"`))
				}
			})
			c := digestClient(t, srv.Addr(), transport, "bob", secret)
			var mu sync.Mutex
			var got []string
			ctx := WithTrace(context.Background(), func(m Traced) {
				mu.Lock()
				defer mu.Unlock()
				line, _, _ := strings.Cut(m.Message, "\r\n")
				dir := "< "
				if m.Sent {
					dir = "> "
				}
				got = append(got, dir+line)
				if strings.Contains(m.Message, secret) || !strings.HasSuffix(m.Message, "\r\n\r\n") {
					t.Errorf("%q", m.Message)
				}
				if strings.Contains(line, "401") && !strings.Contains(m.Message, `WWW-Authenticate: Digest realm="r", qop="auth", nonce="...", opaque="..."`) {
					t.Errorf("%q", m.Message)
				}
				if m.Transport != transport || m.Remote.String() != srv.Addr() || m.Local.Port() == 0 || !m.Local.Addr().IsLoopback() || time.Since(m.Time) > time.Minute {
					t.Errorf("%+v", m)
				}
			})
			if _, err := c.Do(ctx, publishTo("example.com")); err != nil {
				t.Fatal(err)
			}
			const publish = "> PUBLISH sip:alice@example.com SIP/2.0"
			want := []string{publish, publish, "< SIP/2.0 100 Trying", "< SIP/2.0 100 Trying", "< SIP/2.0 401 Unauthorized", publish, "< SIP/2.0 200 OK"}
			if transport == "tcp" {
				want = want[1:]
			}
			mu.Lock()
			defer mu.Unlock()
			if a, b := strings.Join(got, "\n"), strings.Join(want, "\n"); a != b {
				t.Errorf("told\n%s\nwant\n%s", a, b)
			}
		})
	}
}

func TestScrub(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "x": "x", "a: b\r\n": "a: b\r\n",
		"Authorization: Digest username=\"bob\", realm=\"r, s\", nonce=\"n\", uri=\"sip:a@b\", algorithm=MD5, cnonce=\"c\", opaque=\"o\", qop=auth, nc=00000001, response=\"x\"\r\nTo: y\r\n": "Authorization: Digest username=\"bob\", realm=\"r, s\", nonce=\"...\", uri=\"sip:a@b\", algorithm=MD5, cnonce=\"...\", opaque=\"...\", qop=auth, nc=00000001, response=\"...\"\r\nTo: y\r\n",
		"PROXY-AUTHORIZATION : digest\r\n\tresponse=x\r\n ,username=u":                              "PROXY-AUTHORIZATION : ...",
		"Proxy-Authorization:Digest response=x\r\n ,username=u\r\n":                                 "Proxy-Authorization: Digest response=\"...\", username=u\r\n",
		"Authorization: Basic Ym9iOnNlY3JldA==\r\n":                                                 "Authorization: ...\r\n",
		"Authorization: Digest username=\"a, response=\"x\", realm=r\r\n":                           "Authorization: Digest username=\"...\"\r\n",
		"Authorization: Digest secret, realm=r\r\n":                                                 "Authorization: Digest ..., realm=r\r\n",
		"Proxy-Authenticate: Digest realm=\"r\", nonce=n, stale=true\r\n":                           "Proxy-Authenticate: Digest realm=\"r\", nonce=\"...\", stale=true\r\n",
		"Authentication-Info: nextnonce=\"n\", nc=1, rspauth=\"x\"\r\n":                             "Authentication-Info: nextnonce=\"...\", nc=1, rspauth=\"...\"\r\n",
		"Via: x\r\n\r\nPUBLISH sip:a@b SIP/2.0\r\nAuthorization: Digest response=\"in a body\"\r\n": "Via: x\r\n\r\nPUBLISH sip:a@b SIP/2.0\r\nAuthorization: Digest response=\"...\"\r\n",
	} {
		if got := scrub(in); got != want {
			t.Errorf("%q\nbecomes %q\nwant    %q", in, got, want)
		}
	}
}

// TestTraceCostsNothing where nobody looks.
func TestTraceCostsNothing(t *testing.T) {
	data, l := []byte("x"), link{transport: "udp", local: netip.MustParseAddrPort("[::1]:1")}
	if n := testing.AllocsPerRun(100, func() {
		f := tracing(t.Context())
		f.sent(l, data)
		f.received(l, nil)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzScrub: a secret does not show through whatever stands around it.
func FuzzScrub(f *testing.F) {
	f.Add("Via: x\r\n", `username="a`, ", realm=r")
	f.Add("", `uri="x\`, `"`)
	f.Fuzz(func(t *testing.T, head, before, after string) {
		for _, name := range []string{"Authorization", "proxy-authenticate", "Authentication-Info"} {
			const secret = "S3CR3TS3CR3T"
			if strings.ContainsAny(before, "\r\n") || head != "" && !strings.HasSuffix(head, "\n") || strings.Contains(head+before+after, secret) {
				return
			}
			for _, value := range []string{`nonce="` + secret + `"`, "nextnonce=" + secret} {
				if got := scrub(head + name + ": Digest " + before + ", " + value + "," + after); strings.Contains(got, secret) {
					t.Errorf("%q", got)
				}
			}
		}
	})
}
