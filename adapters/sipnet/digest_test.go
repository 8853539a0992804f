package sipnet

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// TestDigest: a challenge is answered, with what it asks for, and costs a transaction once.
func TestDigest(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		for _, proxy := range []bool{false, true} {
			for _, plain := range []bool{false, true} {
				for _, alg := range []string{"", "MD5", "SHA-256", "SHA-512-256"} {
					t.Run(fmt.Sprintf("%s/proxy=%v/plain=%v/%s", transport, proxy, plain, alg), func(t *testing.T) {
						d := defaults(func(d *digestServer) { d.proxy, d.plain, d.offers = proxy, plain, []string{alg} })
						srv := siptest.New(t, transport, "127.0.0.1:0", d.script)
						c := digestClient(t, srv.Addr(), transport, d.user, d.password)
						for range 3 {
							if res := publish(t, c, "example.com"); res.StatusCode != 200 {
								t.Fatalf("%d %s", res.StatusCode, res.Reason)
							}
						}
						all := srv.All()
						if len(all) != 4 {
							t.Fatalf("%d transactions, want 4", len(all))
						}
						for i, want := range []string{"", "00000001", "00000002", "00000003"} {
							if plain {
								want = ""
							}
							if nc := param(all[i].Header(answerHeader(proxy)), "nc"); nc != want {
								t.Errorf("request %d: nc %q, want %q", i, nc, want)
							}
						}
						for _, name := range []string{"Call-ID", "From", "To"} {
							if all[0].Header(name) != all[1].Header(name) {
								t.Errorf("%s: %s, then %s", name, all[0].Header(name), all[1].Header(name))
							}
						}
						if all[0].Header("CSeq") != "1 PUBLISH" || all[1].Header("CSeq") != "2 PUBLISH" || all[2].Header("CSeq") != "1 PUBLISH" {
							t.Errorf("CSeq %s, %s, %s", all[0].Header("CSeq"), all[1].Header("CSeq"), all[2].Header("CSeq"))
						}
						if all[0].Header("Via") == all[1].Header("Via") {
							t.Error("the branch is the same")
						}
					})
				}
			}
		}
	}
}

// TestDigestConcurrent: 200 requests at a time, and every one is through in two transactions
// at most, however the server deals with its nonces; as many again in one each.
func TestDigestConcurrent(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*digestServer){
		"a nonce each":      func(d *digestServer) {},
		"one nonce for all": func(d *digestServer) { d.shared = true },
		"rising counts":     func(d *digestServer) { d.rising = true },
		"stale after 3":     func(d *digestServer) { d.uses = 3 },
		"once":              func(d *digestServer) { d.uses = 1 },
		"nextnonce":         func(d *digestServer) { d.uses, d.info = 1, true },
	} {
		t.Run(name, func(t *testing.T) {
			d := defaults(change)
			srv := siptest.New(t, "udp", "127.0.0.1:0", d.script)
			c := digestClient(t, srv.Addr(), "udp", d.user, d.password)
			before := 0
			for round := range 5 {
				var wg sync.WaitGroup
				for range 200 {
					wg.Go(func() {
						if res := publish(t, c, "example.com"); res.StatusCode != 200 {
							t.Errorf("%d %s", res.StatusCode, res.Reason)
						}
					})
				}
				wg.Wait()
				all := transactions(srv)
				t.Logf("round %d: %d transactions", round, all-before)
				if round == 1 && d.uses == 0 && !d.rising && all-before != 200 {
					t.Errorf("%d transactions, want 200", all-before)
				}
				before = all
			}
			if n := d.most(); n > 2 {
				t.Errorf("a request took %d transactions", n)
			}
		})
	}
}

// TestDigestStaleForAll: when a nonce that all share has gone stale, all converge at once.
func TestDigestStaleForAll(t *testing.T) {
	t.Parallel()
	d := defaults(func(d *digestServer) { d.shared = true })
	srv := siptest.New(t, "udp", "127.0.0.1:0", d.script)
	c := digestClient(t, srv.Addr(), "udp", d.user, d.password)
	publish(t, c, "example.com")
	d.mu.Lock()
	d.nonces, d.current, d.sent = nil, "", nil // all are forgotten: every answer is stale
	d.mu.Unlock()
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if res := publish(t, c, "example.com"); res.StatusCode != 200 {
				t.Errorf("%d %s", res.StatusCode, res.Reason)
			}
		})
	}
	wg.Wait()
	if n := d.most(); n > 2 {
		t.Errorf("a request took %d transactions", n)
	}
	if n := transactions(srv); n > 2+400 {
		t.Errorf("%d transactions", n)
	}
}

// TestDigestSharedNonce: who shared a nonce and came too late takes it from nobody else; the
// last one to be told that it is stale ends it.
func TestDigestSharedNonce(t *testing.T) {
	t.Parallel()
	a := &authenticator{username: "bob", password: "secret"}
	issued := 0
	refuse := func() *sip.Response {
		issued++
		res := sip.NewResponse(401, "Unauthorized")
		res.AppendHeader(sip.NewHeader("WWW-Authenticate", fmt.Sprintf(`Digest realm="r", qop="auth", stale=true, nonce="n%d"`, issued)))
		return res
	}
	// do sends a request whose credentials are not good enough, or are, and lets another one
	// go beside it.
	do := func(stale int, beside func()) (nonces string) {
		a.do(t.Context(), draftOf(publishTo("example.com")), func(_ context.Context, req *Draft) (*sip.Response, error) {
			if len(req.credentials) == 0 {
				return refuse(), nil
			}
			_, value, _ := strings.Cut(req.credentials[0], ": ")
			nonces += " " + param(value, "nonce")
			if beside != nil {
				beside()
				beside = nil
			}
			if stale--; stale >= 0 {
				return refuse(), nil
			}
			return sip.NewResponse(200, "OK"), nil
		})
		return nonces
	}
	do(0, nil)
	inner := ""
	if outer := do(0, func() { inner = do(1, nil) }); outer != " n1" || inner != " n1 n2" {
		t.Errorf("two that shared n1: %s and%s", outer, inner)
	}
	if outer := do(0, func() { inner = do(0, nil) }); outer+inner != " n1 n2" {
		t.Errorf("then, at a time: %s and%s", outer, inner)
	}
	do(1, nil)
	if outer := do(0, func() { inner = do(0, nil) }); outer+inner != " n3 n2" && outer+inner != " n3 n1" {
		t.Errorf("after one was stale: %s and%s", outer, inner)
	}
}

// TestDigestOffers: of several challenges the first that is supported is answered.
func TestDigestOffers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		offers []string
		want   string
	}{
		{[]string{"MD5", "SHA-256"}, "MD5"},
		{[]string{"SHA-256", "MD5"}, "SHA-256"},
		{[]string{"SHA-512-256", "SHA-256", "MD5"}, "SHA-512-256"},
		{[]string{"AKAv1-MD5", "MD5-sess", "SHA-256", "MD5"}, "SHA-256"},
	} {
		d := defaults(func(d *digestServer) { d.offers = tc.offers })
		srv := siptest.New(t, "udp", "127.0.0.1:0", d.script)
		if res := publish(t, digestClient(t, srv.Addr(), "udp", d.user, d.password), "example.com"); res.StatusCode != 200 {
			t.Errorf("%q: %d %s", tc.offers, res.StatusCode, res.Reason)
		}
		if got := param(srv.All()[1].Header("Authorization"), "algorithm"); got != tc.want {
			t.Errorf("%q: answered %q, want %q", tc.offers, got, tc.want)
		}
	}
}

// TestDigestProxyThenServer: a proxy and the server behind it both ask, each once.
func TestDigestProxyThenServer(t *testing.T) {
	t.Parallel()
	server := defaults(func(d *digestServer) { d.realm = "server" })
	proxy := defaults(func(d *digestServer) { d.realm, d.proxy, d.next = "proxy", true, server.script })
	srv := siptest.New(t, "udp", "127.0.0.1:0", proxy.script)
	c := digestClient(t, srv.Addr(), "udp", server.user, server.password)
	for range 2 {
		if res := publish(t, c, "example.com"); res.StatusCode != 200 {
			t.Fatalf("%d %s", res.StatusCode, res.Reason)
		}
	}
	all := srv.All()
	if len(all) != 4 || all[2].Header("CSeq") != "3 PUBLISH" || all[3].Header("CSeq") != "1 PUBLISH" {
		t.Fatalf("%d transactions, CSeq %s", len(all), all[len(all)-1].Header("CSeq"))
	}
	if nc := param(all[3].Header("Proxy-Authorization"), "nc") + param(all[3].Header("Authorization"), "nc"); nc != "0000000300000002" {
		t.Errorf("nc %s", nc)
	}
}

// TestDigestRealms: what is known for one domain is not sent with requests for another.
func TestDigestRealms(t *testing.T) {
	t.Parallel()
	d := defaults(func(*digestServer) {})
	srv := siptest.New(t, "udp", "127.0.0.1:0", d.script)
	c := digestClient(t, srv.Addr(), "udp", d.user, d.password)
	for _, host := range []string{"a.example", "b.example", "A.example", "b.example"} {
		publish(t, c, host)
	}
	if n := len(srv.All()); n != 6 {
		t.Errorf("%d transactions, want 6", n)
	}
}

// TestDigestNextNonce: the nonce that the server names is used next.
func TestDigestNextNonce(t *testing.T) {
	t.Parallel()
	for _, proxy := range []bool{false, true} {
		d := defaults(func(d *digestServer) { d.proxy, d.info, d.uses = proxy, true, 1 })
		srv := siptest.New(t, "udp", "127.0.0.1:0", d.script)
		c := digestClient(t, srv.Addr(), "udp", d.user, d.password)
		for range 4 {
			publish(t, c, "example.com")
		}
		all := srv.All()
		if len(all) != 5 {
			t.Fatalf("%d transactions, want 5", len(all))
		}
		for _, c := range all[1:] {
			if nc := param(c.Header(answerHeader(proxy)), "nc"); nc != "00000001" {
				t.Errorf("nc %s of a new nonce", nc)
			}
		}
	}
}

// TestDigestRefused: what stays unanswered says why, and how often it was tried.
func TestDigestRefused(t *testing.T) {
	t.Parallel()
	challenge := func(status string, headers ...string) func(siptest.Request) {
		return func(c siptest.Request) { c.Reply(c.Answer(status, headers...)) }
	}
	const known = `WWW-Authenticate: Digest realm="r", nonce="n"`
	nine := make([]string, 9)
	for i := range nine {
		nine[i] = `WWW-Authenticate: Basic realm="r"`
	}
	nine[8] = known
	for _, tc := range []struct {
		name, user, want string
		script           func(siptest.Request)
		sent             int
	}{
		{"wrong password", "bob", `Unauthorized: the server refused user "bob" for realm "r": check username and password`, challenge("401 Unauthorized", known), 2},
		{"wrong at the proxy", "bob", `No: the proxy refused user "bob" for realm "r": check username and password`,
			challenge("407 No", `Proxy-Authenticate: Digest realm="r", nonce="n"`), 2},
		{"no user", "", `Unauthorized: the server wants to know who we are in realm "r": set username and password`, challenge("401 Unauthorized", known), 1},
		{"always stale", "bob", `Unauthorized: challenged 4 times in a row`, challenge("401 Unauthorized", known+", stale=true"), 4},
		{"nothing to answer", "bob", `Unauthorized: it has no challenge`, challenge("401 Unauthorized"), 1},
		{"Basic", "bob", `scheme "Basic"`, challenge("401 Unauthorized", `WWW-Authenticate: Basic realm="r"`), 1},
		{"auth-int only", "bob", `qop "auth-int"`, challenge("401 Unauthorized", known+`, qop="auth-int"`), 1},
		{"algorithm", "bob", `algorithm "MD5-sess"`, challenge("401 Unauthorized", known+`, algorithm=MD5-sess`), 1},
		{"no nonce", "bob", `without a nonce`, challenge("401 Unauthorized", `WWW-Authenticate: Digest realm="r"`), 1},
		{"malformed", "bob", `malformed`, challenge("401 Unauthorized", known+`, opaque="`), 1},
		{"too long", "bob", `over 4096`, challenge("401 Unauthorized", known+`, opaque="`+strings.Repeat("x", 4096)+`"`), 1},
		{"control characters", "bob", `cannot be repeated`, challenge("401 Unauthorized", "WWW-Authenticate: Digest realm=\"r\x01\", nonce=\"n\""), 1},
		{"the ninth", "bob", `scheme "Basic"`, challenge("401 Unauthorized", nine...), 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := siptest.New(t, "tcp", "127.0.0.1:0", tc.script)
			res := publish(t, digestClient(t, srv.Addr(), "tcp", tc.user, "secret"), "example.com")
			if res.StatusCode != 401 && res.StatusCode != 407 || !strings.Contains(res.Reason, tc.want) {
				t.Errorf("%d %s, want %s", res.StatusCode, res.Reason, tc.want)
			}
			all := srv.All()
			if len(all) != tc.sent {
				t.Errorf("%d transactions, want %d", len(all), tc.sent)
			}
			for _, c := range all {
				if strings.Contains(c.Raw, "Basic") || strings.Contains(c.Raw, "secret") {
					t.Errorf("sent %s", c.Raw)
				}
			}
		})
	}
}

// TestDigestPasswordMended: a refusal is not for good.
func TestDigestPasswordMended(t *testing.T) {
	t.Parallel()
	d := defaults(func(*digestServer) {})
	right := d.password
	d.password = "another"
	srv := siptest.New(t, "udp", "127.0.0.1:0", d.script)
	c := digestClient(t, srv.Addr(), "udp", d.user, right)
	if res := publish(t, c, "example.com"); res.StatusCode != 401 {
		t.Fatalf("%d", res.StatusCode)
	}
	d.mu.Lock()
	d.password = right
	d.mu.Unlock()
	if res := publish(t, c, "example.com"); res.StatusCode != 200 {
		t.Errorf("%d %s", res.StatusCode, res.Reason)
	}
}

// TestDigestBounds: a server that makes up realms and nonces costs no memory without end.
func TestDigestBounds(t *testing.T) {
	t.Parallel()
	a := &authenticator{username: "bob", password: "secret"}
	n := 0
	for i := range 3 * maxSpaces {
		req := draftOf(publishTo(fmt.Sprint(i/5, ".example")))
		res, err := a.do(t.Context(), req, func(_ context.Context, req *Draft) (*sip.Response, error) {
			if sent := len(req.credentials); sent > maxHostSpaces+maxRounds-1 {
				t.Errorf("%d headers", sent)
			}
			n++
			res := sip.NewResponse(401, "Unauthorized")
			res.AppendHeader(sip.NewHeader("WWW-Authenticate", fmt.Sprintf(`Digest realm="%d", nonce="%d"`, n, n)))
			return res, nil
		})
		if err != nil || res.StatusCode != 401 {
			t.Fatal(res, err)
		}
	}
	if len(a.spaces) > maxSpaces {
		t.Errorf("%d spaces", len(a.spaces))
	}
	s := a.spaces[0]
	for i := range 3 * maxNonces {
		c, err := parseChallenge(fmt.Sprintf(`Digest realm="r", nonce="%d"`, i))
		if err != nil {
			t.Fatal(err)
		}
		s.add(c)
	}
	if len(s.nonces) > maxNonces {
		t.Errorf("%d nonces", len(s.nonces))
	}
}

func FuzzChallenge(f *testing.F) {
	f.Add(`Digest realm="r", nonce="n", qop="auth,auth-int", algorithm=SHA-256, opaque="o", stale=true`)
	f.Add(`Digest realm="a\"b\\", nonce=`)
	f.Add(`Basic realm="x"`)
	f.Add("Digest nonce=\"\u00a0\xff\", realm=\"\", qop=\"\"")
	f.Fuzz(func(t *testing.T, value string) {
		param(value, "nextnonce")
		c, err := parseChallenge(value)
		if err != nil {
			return
		}
		a := &authenticator{username: "bob", password: "secret"}
		sent := ""
		_, err = a.do(t.Context(), draftOf(publishTo("example.com")), func(_ context.Context, req *Draft) (*sip.Response, error) {
			res := sip.NewResponse(200, "OK")
			if len(req.credentials) > 0 {
				_, sent, _ = strings.Cut(strings.TrimSuffix(req.credentials[0], "\r\n"), ": ")
			} else {
				res = sip.NewResponse(401, "Unauthorized")
				res.AppendHeader(sip.NewHeader("WWW-Authenticate", value))
			}
			return res, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if param(sent, "realm") != c.Realm || param(sent, "nonce") != c.Nonce || strings.ContainsAny(sent, "\r\n") ||
			c.Opaque != "" && param(sent, "opaque") != c.Opaque {
			t.Errorf("%q is answered %q", value, sent)
		}
	})
}
