package sippublish

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/sipnet"
	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// reply is an answer, and what it must mean.
type reply struct {
	name    string // "" for the status itself
	status  string
	headers []string
	tagged  bool // the request had a SIP-If-Match
	want    busylamp.Outcome
}

// replies gets the answers from a real server, over UDP and TCP.
func replies(t *testing.T, all ...reply) {
	t.Helper()
	t.Parallel()
	for _, tc := range all {
		if tc.name == "" {
			tc.name = tc.status
		}
		if tc.tagged {
			tc.name += " to a tag"
		}
		for _, transport := range []string{"udp", "tcp"} {
			t.Run(tc.name+"/"+transport, func(t *testing.T) {
				srv := siptest.New(t, transport, "127.0.0.1:0", func(c siptest.Request) { c.Reply(c.Answer(tc.status, tc.headers...)) })
				r := initial
				if tc.tagged {
					r = modify
				}
				if got := newPublisher(t, srv.Addr(), transport).Publish(t.Context(), r); got != tc.want {
					t.Errorf("got %+v, want %+v", got, tc.want)
				}
				if n := len(srv.All()); n != 1 {
					t.Errorf("%d requests", n)
				}
			})
		}
	}
}

// means returns a row of a table: a status without headers, and what it means.
func means(status string, result busylamp.Result) reply {
	var code int
	fmt.Sscan(status, &code)
	return reply{status: status, want: busylamp.Outcome{Result: result, Code: code, Reason: status[4:]}}
}

// with adds headers to a row.
func (r reply) with(name string, headers ...string) reply {
	r.name, r.headers = name, headers
	return r
}

func TestReply2xx(t *testing.T) {
	ok := func(name, tag string, expires time.Duration, headers ...string) reply {
		r := means("200 OK", busylamp.Accepted).with(name, headers...)
		r.want.Tag, r.want.Expires = tag, expires
		return r
	}
	accepted202 := means("202 Accepted", busylamp.Accepted)
	accepted202.headers = []string{"SIP-ETag: x", "Expires: 9"}
	accepted202.want.Tag, accepted202.want.Expires = "x", 9*time.Second
	replies(t,
		ok("tag and expires", "dx200xyz", 5*time.Minute, "SIP-ETag: dx200xyz", "Expires: 300"),
		ok("names in another case", "a.b-c", 7*time.Second, "sip-etag:   a.b-c ", "EXPIRES:7"),
		ok("neither", "", 0),
		ok("tag only", "x", 0, "SIP-ETag: x"),
		ok("expires only", "", time.Minute, "Expires: 60"),
		ok("tag of two words", "", 0, "SIP-ETag: a b"),
		ok("tag with separators", `"a:b/c=";(d)@<e>,[f]?{g}\`, 0, `SIP-ETag: "a:b/c=";(d)@<e>,[f]?{g}\`),
		ok("tag with a tab", "", 0, "SIP-ETag: a\tb"),
		ok("tag with a control character", "", 0, "SIP-ETag: a\x01b"),
		ok("tag with DEL", "", 0, "SIP-ETag: a\x7f"),
		ok("tag that is not ASCII", "", 0, "SIP-ETag: \u00fc"),
		ok("empty tag", "", 0, "SIP-ETag: "),
		ok("longest tag", strings.Repeat("x", maxTag), 0, "SIP-ETag: "+strings.Repeat("x", maxTag)),
		ok("oversized tag", "", 0, "SIP-ETag: "+strings.Repeat("x", maxTag+1)),
		ok("negative expires", "x", 0, "SIP-ETag: x", "Expires: -1"),
		ok("expires in words", "x", 0, "SIP-ETag: x", "Expires: soon"),
		ok("oversized expires", "x", 0, "SIP-ETag: x", "Expires: 99999999999"),
		ok("expires over 31 bits", "x", 0, "SIP-ETag: x", "Expires: 4294967295"),
		ok("expires zero", "x", 0, "SIP-ETag: x", "Expires: 0"),
		ok("a Retry-After means nothing", "x", 0, "SIP-ETag: x", "Retry-After: 7"),
		accepted202)
}

// TestReply3xx: a redirection is not followed, but told.
func TestReply3xx(t *testing.T) {
	to := means("302 Moved Temporarily", busylamp.Refused).with("where", "Contact: <sip:other.example:5070>")
	to.want.Reason += ": the server redirects to <sip:other.example:5070>, which is not followed: configure it as server"
	replies(t, to, means("302 Moved Temporarily", busylamp.Refused).with("nowhere"), means("305 Use Proxy", busylamp.Refused))
}

// TestReply400: it can be about the entity-tag where there is one.
func TestReply400(t *testing.T) {
	tagged400, tagged481 := means("400 Bad Request", busylamp.Failed), means("481 Subscription does not exist", busylamp.Failed)
	tagged400.tagged, tagged481.tagged = true, true
	replies(t, means("400 Bad Request", busylamp.Refused), tagged400, means("481 Subscription does not exist", busylamp.Refused), tagged481)
}

// TestReply401: what is left of a challenge says what to do.
func TestReply401(t *testing.T) {
	missing401 := means("401 Unauthorized", busylamp.Unavailable).with("401 without a user", `WWW-Authenticate: Digest realm="x", nonce="y"`)
	missing401.want.Reason += `: the server wants to know who we are in realm "x": set username and password`
	missing407 := means("407 Proxy Authentication Required", busylamp.Unavailable).with("407 without a user", `Proxy-Authenticate: Digest realm="x", nonce="y"`)
	missing407.want.Reason += `: the proxy wants to know who we are in realm "x": set username and password`
	missing401.want.RetryAfter, missing407.want.RetryAfter = lockoutFirst, lockoutFirst
	replies(t, missing401, missing407)
}

func TestReply412(t *testing.T) {
	tagged := means("412 Conditional Request Failed", busylamp.Gone)
	tagged.tagged = true
	replies(t, means("412 Conditional Request Failed", busylamp.Gone), tagged)
}

func TestReply423(t *testing.T) {
	brief := func(name string, least time.Duration, headers ...string) reply {
		r := means("423 Interval Too Brief", busylamp.TooBrief).with(name, headers...)
		r.want.MinExpires = least
		return r
	}
	replies(t,
		brief("a minimum", time.Hour, "Min-Expires: 3600"),
		brief("none", 0),
		brief("zero", 0, "Min-Expires: 0"),
		brief("negative", 0, "Min-Expires: -3600"),
		brief("words", 0, "Min-Expires: an hour"),
		brief("a fraction", 0, "Min-Expires: 3600.5"),
		brief("the greatest", maxExpires*time.Second, "Min-Expires: 2147483647"),
		brief("greater", 0, "Min-Expires: 2147483648"),
		brief("huge", 0, "Min-Expires: 99999999999999999999999999"))
}

// TestReplyRefused: answers that will be the same next time.
func TestReplyRefused(t *testing.T) {
	var all []reply
	for _, status := range []string{"402 Payment Required", "403 Forbidden", "404 Not Found", "405 Method Not Allowed", "406 Not Acceptable",
		"409 Conflict", "410 Gone", "413 Request Entity Too Large", "415 Unsupported Media Type", "416 Unsupported URI Scheme", "420 Bad Extension",
		"421 Extension Required", "482 Loop Detected", "483 Too Many Hops", "484 Address Incomplete", "488 Not Acceptable Here", "489 Bad Event",
		"501 Not Implemented", "505 Version Not Supported", "513 Message Too Large", "600 Busy Everywhere", "603 Decline",
		"604 Does Not Exist Anywhere", "606 Not Acceptable"} {
		all = append(all, means(status, busylamp.Refused))
	}
	long := means("404 "+strings.Repeat("x", 1000), busylamp.Refused)
	long.name, long.want.Reason = "long reason", strings.Repeat("x", maxReason)
	replies(t, append(all, long)...)
}

// TestReplyFailed: answers about this presentity that may be others next time.
func TestReplyFailed(t *testing.T) {
	var all []reply
	for _, status := range []string{"408 Request Timeout", "430 Flow Failed", "480 Temporarily Unavailable", "486 Busy Here",
		"487 Request Terminated", "491 Request Pending", "500 Server Internal Error", "502 Bad Gateway", "504 Server Time-out", "580 Precondition Failure"} {
		all = append(all, means(status, busylamp.Failed))
	}
	replies(t, all...)
}

// TestReplyRetryAfter: on 503 and on any other, in all the forms of RFC 3261 section 20.33.
func TestReplyRetryAfter(t *testing.T) {
	after := func(status, value string, want time.Duration) reply {
		result := map[string]busylamp.Result{"503": busylamp.Unavailable, "500": busylamp.Failed}[status[:3]]
		if result == 0 {
			result = busylamp.Refused
		}
		r := means(status, result).with(status+" "+value, "Retry-After: "+value)
		r.want.RetryAfter = want
		return r
	}
	const s503 = "503 Service Unavailable"
	replies(t, means(s503, busylamp.Unavailable).with("none"),
		after(s503, "7", 7*time.Second),
		after(s503, "120 (I'm in a meeting)", 2*time.Minute),
		after(s503, "7(comment (nested));duration=3600", 7*time.Second),
		after(s503, "18;duration=3600", 18*time.Second),
		after(s503, "0", 0),
		after(s503, "-7", 0),
		after(s503, "7.5", 0),
		after(s503, "7 s", 0),
		after(s503, "Fri, 26 Sep 1997", 0),
		after(s503, "(7)", 0),
		after(s503, "3601", time.Hour),
		after(s503, "99999999999999999999999999", time.Hour),
		after("500 Server Internal Error", "7", 7*time.Second),
		after("404 Not Found", "7", 7*time.Second),
		after("413 Request Entity Too Large", "60", time.Minute),
		after("600 Busy Everywhere", "7", 7*time.Second))
}

// TestReplyNone: nobody there, nobody listening, nobody answering.
func TestReplyNone(t *testing.T) {
	t.Parallel()
	silent := siptest.New(t, "udp+tcp", "127.0.0.1:0", nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := l.Addr().String()
	l.Close()
	for name, tc := range map[string]struct{ addr, transport, want string }{
		"silent/udp":  {silent.Addr(), "udp", "no answer"},
		"silent/tcp":  {silent.Addr(), "tcp", "no answer"},
		"refused/tcp": {refusing, "tcp", "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newPublisher(t, tc.addr, tc.transport, timeout(300*time.Millisecond)).Publish(context.Background(), initial)
			if o.Result != busylamp.Unavailable || o.Code != 0 || !strings.Contains(o.Reason, tc.want) {
				t.Errorf("%+v", o)
			}
		})
	}
}

// TestReplyOfAnotherNumber: an answer to another CSeq number is none to this request.
func TestReplyOfAnotherNumber(t *testing.T) {
	t.Parallel()
	srv := siptest.New(t, "udp", "127.0.0.1:0", func(c siptest.Request) {
		c.Reply(strings.Replace(c.Answer("200 OK", "SIP-ETag: wrong"), "CSeq: 1 ", "CSeq: 2 ", 1))
		c.Accept("right")
	})
	if o := accepted(t, newPublisher(t, srv.Addr(), "udp"), initial); o.Tag != "right" {
		t.Errorf("%+v", o)
	}
}

// FuzzRetryAfter: no value makes a wait that is negative or endless.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"7", "7 (c);duration=3600", "-1", "99999999999999999999", "", "0x7", "7\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		res := sip.NewResponse(503, "x")
		for _, name := range []string{"Retry-After", "Min-Expires"} {
			res.AppendHeader(sip.NewHeader(name, s))
		}
		if d := sipnet.RetryAfter(res); d < 0 || d > time.Hour {
			t.Errorf("%q: %v", s, d)
		}
		if d := seconds(res, "Min-Expires"); d < 0 || d > maxExpires*time.Second {
			t.Errorf("%q: %v", s, d)
		}
	})
}
