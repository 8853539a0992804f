package sipnet

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// challenged is a 401 with a nonce.
func challenged(r siptest.Request, nonce string) {
	r.Reply(r.Answer("401 Unauthorized", `WWW-Authenticate: Digest realm="r", qop="auth", nonce="`+nonce+`"`))
}

// TestDigestFailOver: servers that challenge are gone when they are answered. The next one
// knows nothing of their nonces, and its own challenge is no word against the password; but
// its refusal of its own nonce is.
func TestDigestFailOver(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		gone  int // servers before the last one
		right bool
		want  string
	}{
		"one":                 {1, true, "200 OK"},
		"two":                 {2, true, "200 OK"},
		"one, wrong password": {1, false, `401 Unauthorized: the server refused user "bob" for realm "r": check username and password`},
		"two, wrong password": {2, false, `401 Unauthorized: the server refused user "bob" for realm "r": check username and password`},
	} {
		t.Run(name, func(t *testing.T) {
			var records []string
			var last *siptest.Server
			for i := range tc.gone + 1 {
				own := fmt.Sprint("n", i)
				last = siptest.New(t, "tcp", "127.0.0.1:0", func(r siptest.Request) {
					switch nonce := param(r.Header("Authorization"), "nonce"); {
					case nonce != own:
						challenged(r, own)
					case i < tc.gone:
						r.HangUp()
					case tc.right:
						r.Accept("last")
					default:
						challenged(r, own)
					}
				})
				records = append(records, srv("tcp", last.Addr(), 10*i, 0)...)
			}
			c := newZone(t, records...).client(t, "tcp", normal, func(c *Config) { c.Username, c.Password = "bob", "secret" })
			res, err := send(c, patience)
			if err != nil || fmt.Sprint(res.StatusCode, " ", res.Reason) != tc.want || len(last.All()) != 2 {
				t.Errorf("%v, %v after %d requests to the last", res, err, len(last.All()))
			}
		})
	}
}

// TestDigestBehindOneAddress: servers behind a balancer do not know each other's nonces, and
// one refusal of another's is not the end. Two are: a wrong password is not tried on.
func TestDigestBehindOneAddress(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		accepts, sent int // the request that is accepted, 0 for none
	}{
		"one that knows no other's": {3, 3},
		"wrong password":            {0, 3},
	} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int32
			srv := siptest.New(t, "tcp", "127.0.0.1:0", func(r siptest.Request) {
				if i := int(n.Add(1)); i == tc.accepts && param(r.Header("Authorization"), "nonce") == fmt.Sprint("n", i-1) {
					r.Accept("x")
				} else {
					challenged(r, fmt.Sprint("n", i))
				}
			})
			res := publish(t, digestClient(t, srv.Addr(), "tcp", "bob", "secret"), "example.com")
			if len(srv.All()) != tc.sent || (res.StatusCode == 200) != (tc.accepts > 0) ||
				tc.accepts == 0 && !strings.HasSuffix(res.Reason, `the server refused user "bob" for realm "r": check username and password`) {
				t.Errorf("%d %s after %d requests", res.StatusCode, res.Reason, len(srv.All()))
			}
		})
	}
}
