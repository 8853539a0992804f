package sipnet

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
	"github.com/emiago/sipgo/sip"
)

// response computes a digest anew, beside the library that the client uses (RFC 7616
// section 3.4.1).
func response(algorithm, user, realm, password, method, uri, nonce, nc, cnonce, qop string) string {
	h := map[string]func() hash.Hash{"": md5.New, "MD5": md5.New, "SHA-256": sha256.New, "SHA-512-256": sha512.New512_256}[algorithm]()
	sum := func(s string) string {
		h.Reset()
		h.Write([]byte(s))
		return hex.EncodeToString(h.Sum(nil))
	}
	a1, a2 := sum(user+":"+realm+":"+password), sum(method+":"+uri)
	if qop == "" {
		return sum(a1 + ":" + nonce + ":" + a2)
	}
	return sum(strings.Join([]string{a1, nonce, nc, cnonce, qop, a2}, ":"))
}

// TestDigestExamples holds that computation to the examples of the RFCs (that of RFC 2069
// as its erratum 749 has it, the last of RFC 7616 as 4897 has it).
func TestDigestExamples(t *testing.T) {
	const uri, org = "/dir/index.html", "http-auth@example.org"
	const nonce, cnonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
	for name, tc := range map[string]struct{ got, want string }{
		"RFC 2069": {response("", "Mufasa", "testrealm@host.com", "CircleOfLife", "GET", uri, "dcd98b7102dd2f0e8b11d0f600bfb0c093", "", "", ""),
			"1949323746fe6a43ef61f9606e7febea"},
		"RFC 7616 MD5": {response("MD5", "Mufasa", org, "Circle of Life", "GET", uri, nonce, "00000001", cnonce, "auth"),
			"8ca523f5e9506fed4657c9700eebdbec"},
		"RFC 7616 SHA-256": {response("SHA-256", "Mufasa", org, "Circle of Life", "GET", uri, nonce, "00000001", cnonce, "auth"),
			"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"},
		"RFC 7616 SHA-512-256": {response("SHA-512-256", "J\u00e4s\u00f8n Doe", "api@example.org", "Secret, or not?", "GET", "/doe.json",
			"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", "00000001", "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v", "auth"),
			"3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %s, want %s", name, tc.got, tc.want)
		}
	}
}

// digestServer is a presence server that wants digests.
type digestServer struct {
	realm, user, password string
	proxy                 bool
	offers                []string // algorithms, "" for none named, in their order
	plain                 bool     // without qop, as in RFC 2069
	uses                  int      // a nonce's at most; 0: any number
	shared                bool     // one nonce for all until it is used up, else one for each challenge
	rising                bool     // counts must rise, as with Kamailio's nonce_count
	info                  bool     // nextnonce in every answer
	next                  func(c siptest.Request)

	mu      sync.Mutex
	issued  int
	current string
	nonces  map[string]*nonceUse
	sent    map[string]int    // requests by Call-ID
	answers map[string]string // by branch: what is sent again is answered again
}

type nonceUse struct {
	uses, most int
	seen       map[string]bool
}

func (d *digestServer) issue() string {
	if d.shared && d.current != "" && (d.uses == 0 || d.nonces[d.current].uses < d.uses) {
		return d.current
	}
	d.issued++
	d.current = fmt.Sprintf("nonce\"%d", d.issued)
	if d.nonces == nil {
		d.nonces = map[string]*nonceUse{}
	}
	d.nonces[d.current] = &nonceUse{seen: map[string]bool{}}
	return d.current
}

// script is RFC 7616 section 3.4.6: a right answer to a used up nonce is stale.
func (d *digestServer) script(c siptest.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sent == nil {
		d.sent, d.answers = map[string]int{}, map[string]string{}
	}
	via, reply := c.Header("Via"), c.Reply
	if again, ok := d.answers[via]; ok {
		reply(again)
		return
	}
	c.Reply = func(s string) {
		d.answers[via] = s
		reply(s)
	}
	d.sent[c.Header("Call-ID")]++
	got := c.Header(answerHeader(d.proxy))
	if got == "" {
		d.challenge(c, "")
		return
	}
	nonce := param(got, "nonce")
	want := response(param(got, "algorithm"), d.user, d.realm, d.password, "PUBLISH", param(got, "uri"), nonce,
		param(got, "nc"), param(got, "cnonce"), param(got, "qop"))
	use := d.nonces[nonce]
	switch nc := param(got, "nc"); {
	case param(got, "Digest username") != d.user || param(got, "realm") != d.realm || param(got, "response") != want ||
		strings.Fields(c.StartLine())[1] != param(got, "uri") || param(got, "opaque") != `o\p"` || (nc == "") != d.plain:
		d.challenge(c, "")
		return
	case use == nil || d.uses > 0 && use.uses >= d.uses || use.seen[nc] && !d.plain || d.rising && d.count(nc) <= use.most:
		d.challenge(c, ", stale=TRUE")
		return
	default:
		use.uses++
		use.seen[nc], use.most = true, d.count(nc)
	}
	if d.next != nil {
		d.next(c)
		return
	}
	headers := []string{"SIP-ETag: x"}
	if d.info {
		headers = append(headers, infoHeader(d.proxy)+`: qop=auth, rspauth="0", nextnonce="`+strings.ReplaceAll(d.issue(), `"`, `\"`)+`"`)
	}
	c.Reply(c.Answer("200 OK", headers...))
}

func (d *digestServer) count(nc string) (n int) {
	fmt.Sscanf(nc, "%x", &n)
	return n
}

func (d *digestServer) challenge(c siptest.Request, stale string) {
	status, qop := "401 Unauthorized", `, qop="auth-int, auth"`
	if d.proxy {
		status = "407 Proxy Authentication Required"
	}
	if d.plain {
		qop = ""
	}
	var headers []string
	nonce := strings.ReplaceAll(d.issue(), `"`, `\"`)
	for _, alg := range d.offers {
		if alg != "" {
			alg = ", algorithm=" + alg
		}
		headers = append(headers, challengeHeader(d.proxy)+`: Digest realm="`+d.realm+`", nonce="`+nonce+`", opaque="o\\p\""`+qop+alg+stale)
	}
	c.Reply(c.Answer(status, headers...))
}

// transactions counts the requests to a server by their branches: over UDP a busy machine
// sends some twice.
func transactions(srv *siptest.Server) int {
	vias := map[string]bool{}
	for _, r := range srv.All() {
		vias[r.Header("Via")] = true
	}
	return len(vias)
}

func (d *digestServer) most() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.sent {
		n = max(n, s)
	}
	return n
}

// defaults makes a digestServer that has what every test needs.
func defaults(change func(*digestServer)) *digestServer {
	d := &digestServer{realm: "example.com", user: "busy lamp", password: `p:"w\`, offers: []string{""}}
	change(d)
	return d
}

func digestClient(t testing.TB, addr, transport, user, password string) *Client {
	t.Helper()
	target, err := ParseTarget("sip:" + addr + ";transport=" + transport)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Server: target, Username: user, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// publish sends a request to a domain and returns the answer.
func publish(t testing.TB, c *Client, host string) *sip.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	res, err := c.Do(ctx, publishTo(host))
	if err != nil {
		t.Error(err)
		return sip.NewResponse(0, err.Error())
	}
	return res
}
