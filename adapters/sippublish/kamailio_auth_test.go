package sippublish

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/sipnet"
)

// authenticating are the modules of a Kamailio that wants a digest. Its nonces live for a
// second, and their counts must rise.
const authenticating = `
loadmodule "auth.so"
modparam("auth", "nonce_expire", 1)
modparam("auth", "nonce_count", 1)
modparam("auth", "qop", "auth")
modparam("auth", "nid_pool_no", 1)
`

// sha256 makes it one of RFC 8760's.
const sha256 = `modparam("auth", "algorithm", "SHA-256")
`

// access wants a digest of the user busylamp, whose password is "secret".
const access = `
		if ($au != "busylamp" || !pv_www_authenticate("example.com", "secret", "0")) {
			www_challenge("example.com", "1");
			exit;
		}
`

// asBusylamp gives a publisher a password.
func asBusylamp(password string) func(*Config) {
	return func(c *Config) { c.Username, c.Password = "busylamp", password }
}

// answersOf runs f and returns the status codes of what came for a presentity meanwhile.
func answersOf(t *testing.T, p *Publisher, who busylamp.Presentity, f func()) string {
	t.Helper()
	var mu sync.Mutex
	var codes []string
	stop, err := p.Trace(who, func(m sipnet.Traced) {
		mu.Lock()
		defer mu.Unlock()
		if !m.Sent {
			codes = append(codes, strings.Fields(m.Message)[1])
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	f()
	stop()
	mu.Lock()
	defer mu.Unlock()
	return strings.Join(codes, " ")
}

// TestKamailioAuthentication is the contract with Kamailio's auth module.
func TestKamailioAuthentication(t *testing.T) {
	for name, modules := range map[string]string{"MD5": authenticating, "SHA-256": authenticating + sha256} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := kamailio(t, modules, access)
			t.Run("", func(t *testing.T) { // it outlives the two
				for _, transport := range []string{"udp", "tcp"} {
					t.Run(transport, func(t *testing.T) {
						t.Parallel()
						rightPassword(t, addr, transport)
						wrongPassword(t, addr, transport)
					})
				}
			})
		})
	}
}

// rightPassword publishes until the nonce is stale, and beyond: every PUBLISH costs one
// transaction but for the first one with a nonce.
func rightPassword(t *testing.T, addr, transport string) {
	p := newPublisher(t, addr, transport, asBusylamp("secret"))
	r := initial
	for i, want := range []string{"401 200", "200", "200", "401 200", "200"} {
		if i == 3 {
			time.Sleep(2100 * time.Millisecond) // it counts whole seconds
		}
		if got := answersOf(t, p, alice, func() { r.Tag = accepted(t, p, r).Tag }); got != want {
			t.Errorf("PUBLISH %d is answered %s, want %s", i, got, want)
		}
		r.Kind = busylamp.Modify
	}
}

func wrongPassword(t *testing.T, addr, transport string) {
	p := newPublisher(t, addr, transport, asBusylamp("wrong"))
	var o busylamp.Outcome
	if got := answersOf(t, p, alice, func() { o = p.Publish(t.Context(), initial) }); got != "401 401 401" { // with another nonce each time
		t.Errorf("answered %s", got)
	}
	if o.Result != busylamp.Unavailable || !strings.HasSuffix(o.Reason, `: the server refused user "busylamp" for realm "example.com": check username and password`) {
		t.Errorf("%+v", o)
	}
}

// TestKamailioCounts: where counts must rise, requests that are under way at a time do not
// get in each other's way: each is challenged once at most, and all together no more often
// than there were at a time.
func TestKamailioCounts(t *testing.T) {
	t.Parallel()
	addr := kamailio(t, strings.Replace(authenticating, `"nonce_expire", 1`, `"nonce_expire", 60`, 1), access)
	p := newPublisher(t, addr, "udp", asBusylamp("secret"))
	var challenges atomic.Int32
	for range 10 {
		var wg sync.WaitGroup
		for i := range maxTraces {
			r := initial
			r.Presentity = busylamp.Presentity(fmt.Sprintf("sip:user%d@example.com", i))
			wg.Go(func() {
				switch got := answersOf(t, p, r.Presentity, func() { accepted(t, p, r) }); got {
				case "200":
				case "401 200":
					challenges.Add(1)
				default:
					t.Errorf("answered %s", got)
				}
			})
		}
		wg.Wait()
	}
	if n := challenges.Load(); n < 1 || n > maxTraces {
		t.Errorf("%d challenges for 10 times %d requests", n, maxTraces)
	}
}
