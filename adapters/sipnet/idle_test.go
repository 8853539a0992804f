package sipnet

import (
	"crypto/tls"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// TestIdleConnectionCloses: a connection that the server closes just as a request is sent on
// it costs no fail-over. The request goes once more to the same server, by a new one, unless
// it was heard of.
func TestIdleConnectionCloses(t *testing.T) {
	for name, tc := range map[string]struct {
		answers string // to the requests of a connection: "+" accepts, "1" says 100 and hangs up, "-" hangs up
		later   string // to those of further connections
		at      string // where the second request is answered; "" nowhere
		sent    int    // requests to the first server, all in all
	}{
		"idle":              {"+-", "+", "first", 3},
		"every one":         {"+-", "-", "second", 3},
		"after a 100":       {"+1", "+", "", 2},
		"opened for itself": {"-", "+", "second", 1},
	} {
		for _, transport := range []string{"tcp", "tls"} {
			t.Run(name+"/"+transport, func(t *testing.T) {
				t.Parallel()
				var mu sync.Mutex
				left := map[string]string{} // by connection
				script := func(r siptest.Request) {
					mu.Lock()
					defer mu.Unlock()
					answers, known := left[r.From]
					if !known {
						answers = tc.later
						if len(left) == 0 {
							answers = tc.answers
						}
					}
					left[r.From] = answers[1:]
					switch answers[0] {
					case '+':
						r.Accept("first")
					case '1':
						r.Reply(r.Answer("100 Trying"))
						r.HangUp()
					default:
						r.HangUp()
					}
				}
				first, second, trust := twoServers(t, transport, script, accept("second"))
				z := newZone(t, join(srv(transport, first.Addr(), 10, 0), srv(transport, second.Addr(), 20, 0))...)
				log := &logged{}
				c := z.client(t, transport, normal, log.to(), trust)
				if strings.HasPrefix(tc.answers, "+") {
					accepted(t, c)
				}
				res, err := send(c, patience)
				switch {
				case tc.at == "":
					if err == nil || !strings.Contains(err.Error(), "lost") {
						t.Errorf("%v, %v", res, err)
					}
				case tagOf(t, res, err) != tc.at:
					t.Errorf("at %s, log:\n%s", tagOf(t, res, err), log)
				}
				all := first.All()
				if left := log.count("a server is left"); len(all) != tc.sent || (left > 0) != (tc.at == "second") {
					t.Errorf("%d requests to the first, log:\n%s", len(all), log)
				}
				if n := len(all); n == 3 && (all[1].Header("Call-ID") != all[2].Header("Call-ID") || all[1].Header("Via") == all[2].Header("Via")) {
					t.Error("not the same request, or the same transaction")
				}
			})
		}
	}
}

// twoServers returns two servers over TCP or TLS, and what makes a client trust them.
func twoServers(t *testing.T, transport string, first, second func(siptest.Request)) (a, b *siptest.Server, trust func(*Config)) {
	t.Helper()
	if transport == "tcp" {
		return siptest.New(t, "tcp", "127.0.0.1:0", first), siptest.New(t, "tcp", "127.0.0.1:0", second), func(*Config) {}
	}
	pki := newAuthority(t, "authority")
	cfg := &tls.Config{Certificates: []tls.Certificate{pki.issue(t, "presence.test", time.Hour)}}
	return siptest.NewTLS(t, "127.0.0.1:0", cfg, first), siptest.NewTLS(t, "127.0.0.1:0", cfg, second),
		func(c *Config) { c.TLS.CAFile = pki.file }
}
