package sippublish

import (
	"context"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

func TestAnswers(t *testing.T) {
	ok := func(tag string, expires time.Duration) busylamp.Outcome {
		return busylamp.Outcome{Result: busylamp.Accepted, Code: 200, Reason: "OK", Tag: tag, Expires: expires}
	}
	for _, tc := range []struct {
		name, status string
		headers      []string
		want         busylamp.Outcome
	}{
		{"tag and expires", "200 OK", []string{"SIP-ETag: dx200xyz", "Expires: 300"}, ok("dx200xyz", 5*time.Minute)},
		{"names in another case", "200 OK", []string{"sip-etag:   a.b-c ", "EXPIRES:7"}, ok("a.b-c", 7*time.Second)},
		{"neither", "200 OK", nil, ok("", 0)},
		{"tag only", "200 OK", []string{"SIP-ETag: x"}, ok("x", 0)},
		{"expires only", "200 OK", []string{"Expires: 60"}, ok("", time.Minute)},
		{"tag of two words", "200 OK", []string{"SIP-ETag: a b"}, ok("", 0)},
		{"tag with a separator", "200 OK", []string{`SIP-ETag: "a"`}, ok("", 0)},
		{"tag that is not ASCII", "200 OK", []string{"SIP-ETag: \u00fc"}, ok("", 0)},
		{"empty tag", "200 OK", []string{"SIP-ETag: "}, ok("", 0)},
		{"longest tag", "200 OK", []string{"SIP-ETag: " + strings.Repeat("x", maxTag)}, ok(strings.Repeat("x", maxTag), 0)},
		{"oversized tag", "200 OK", []string{"SIP-ETag: " + strings.Repeat("x", maxTag+1)}, ok("", 0)},
		{"negative expires", "200 OK", []string{"SIP-ETag: x", "Expires: -1"}, ok("x", 0)},
		{"expires in words", "200 OK", []string{"SIP-ETag: x", "Expires: soon"}, ok("x", 0)},
		{"oversized expires", "200 OK", []string{"SIP-ETag: x", "Expires: 99999999999"}, ok("x", 0)},
		{"expires over 31 bits", "200 OK", []string{"SIP-ETag: x", "Expires: 4294967295"}, ok("x", 0)},
		{"expires zero", "200 OK", []string{"SIP-ETag: x", "Expires: 0"}, ok("x", 0)},
		{"202", "202 Accepted", []string{"SIP-ETag: x", "Expires: 9"},
			busylamp.Outcome{Result: busylamp.Accepted, Code: 202, Reason: "Accepted", Tag: "x", Expires: 9 * time.Second}},
		{"412", "412 Conditional Request Failed", nil, busylamp.Outcome{Result: busylamp.Gone, Code: 412, Reason: "Conditional Request Failed"}},
		{"423", "423 Interval Too Brief", []string{"Min-Expires: 3600"}, busylamp.Outcome{Result: busylamp.Refused, Code: 423,
			Reason: "Interval Too Brief: the server wants an expires of 3600 s at least"}},
		{"423 without a minimum", "423 Interval Too Brief", nil, busylamp.Outcome{Result: busylamp.Refused, Code: 423, Reason: "Interval Too Brief"}},
		{"408", "408 Request Timeout", nil, busylamp.Outcome{Result: busylamp.Failed, Code: 408, Reason: "Request Timeout"}},
		{"500", "500 Server Error", nil, busylamp.Outcome{Result: busylamp.Failed, Code: 500, Reason: "Server Error"}},
		{"503", "503 Service Unavailable", []string{"Retry-After: 5"}, busylamp.Outcome{Result: busylamp.Failed, Code: 503, Reason: "Service Unavailable"}},
		{"302", "302 Moved Temporarily", nil, busylamp.Outcome{Result: busylamp.Refused, Code: 302, Reason: "Moved Temporarily"}},
		{"401", "401 Unauthorized", []string{`WWW-Authenticate: Digest realm="x", nonce="y"`},
			busylamp.Outcome{Result: busylamp.Refused, Code: 401, Reason: "Unauthorized"}},
		{"403", "403 Forbidden", nil, busylamp.Outcome{Result: busylamp.Refused, Code: 403, Reason: "Forbidden"}},
		{"404", "404 Not Found", nil, busylamp.Outcome{Result: busylamp.Refused, Code: 404, Reason: "Not Found"}},
		{"489", "489 Bad Event", nil, busylamp.Outcome{Result: busylamp.Refused, Code: 489, Reason: "Bad Event"}},
		{"603", "603 Decline", nil, busylamp.Outcome{Result: busylamp.Refused, Code: 603, Reason: "Decline"}},
		{"long reason", "404 " + strings.Repeat("x", 1000), nil, busylamp.Outcome{Result: busylamp.Refused, Code: 404, Reason: strings.Repeat("x", maxReason)}},
	} {
		for _, transport := range []string{"udp", "tcp"} {
			t.Run(tc.name+"/"+transport, func(t *testing.T) {
				srv := siptest.New(t, transport, "127.0.0.1:0", func(c siptest.Request) { c.Reply(c.Answer(tc.status, tc.headers...)) })
				if got := newPublisher(t, srv.Addr(), transport).Publish(t.Context(), initial); got != tc.want {
					t.Errorf("got %+v, want %+v", got, tc.want)
				}
			})
		}
	}
}

// TestNoise: whatever comes before it, the answer is what answers.
func TestNoise(t *testing.T) {
	for name, noise := range map[string]func(siptest.Request) []string{
		"garbage": func(siptest.Request) []string {
			return []string{"", "\r\n\r\n", "\x00\x00\x00\x00", "x", "SIP/2.0 ", "SIP/2.0 200 OK", "SIP/2.0 200 OK\r\n\r\n",
				"SIP/2.0 abc OK\r\n\r\n", "SIP/2.0 200 OK\r\nVia: nonsense\r\nCSeq: x y z\r\n\r\n",
				"SIP/2.0 200 OK\r\nContent-Length: -5\r\n\r\n", strings.Repeat("\xff", 60000)}
		},
		"a request": func(c siptest.Request) []string {
			return []string{"OPTIONS sip:x@" + c.From + " SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKx\r\n" +
				"From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"}
		},
		"another transaction's": func(c siptest.Request) []string {
			return []string{strings.Replace(c.Answer("200 OK", "SIP-ETag: wrong"), "branch=z9hG4bK", "branch=z9hG4bKx", 1)}
		},
		"another method's": func(c siptest.Request) []string {
			return []string{strings.Replace(c.Answer("200 OK", "SIP-ETag: wrong"), "1 PUBLISH", "1 SUBSCRIBE", 1)}
		},
		"no branch": func(c siptest.Request) []string {
			return []string{strings.Replace(c.Answer("200 OK", "SIP-ETag: wrong"), ";branch=", ";b=", 1)}
		},
		"100": func(c siptest.Request) []string { return []string{c.Answer("100 Trying"), c.Answer("100 Trying")} },
	} {
		t.Run(name, func(t *testing.T) {
			srv := siptest.New(t, "udp", "127.0.0.1:0", func(c siptest.Request) {
				for _, s := range noise(c) {
					c.Reply(s)
				}
				c.Accept("right")
			})
			p := newPublisher(t, srv.Addr(), "udp")
			for range 3 {
				if o := accepted(t, p, initial); o.Tag != "right" {
					t.Errorf("%+v", o)
				}
			}
		})
	}
}

// TestProvisionalEndsNothing: over TCP, where nothing is sent again.
func TestProvisionalEndsNothing(t *testing.T) {
	release := make(chan struct{})
	srv := siptest.New(t, "tcp", "127.0.0.1:0", func(c siptest.Request) {
		c.Reply(c.Answer("100 Trying"))
		<-release
		c.Accept("t1")
	})
	p := newPublisher(t, srv.Addr(), "tcp")
	done := make(chan busylamp.Outcome, 1)
	go func() { done <- p.Publish(context.Background(), initial) }()
	select {
	case o := <-done:
		t.Fatalf("ended by 100: %+v", o)
	case <-time.After(200 * time.Millisecond):
	}
	close(release)
	if o := <-done; o.Tag != "t1" {
		t.Errorf("%+v", o)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nCSeq: 1 PUBLISH\r\nSIP-ETag: x\r\nExpires: 60\r\n\r\n"))
	f.Add([]byte("SIP/2.0 423 Interval Too Brief\r\nMin-Expires: 99999999999\r\nSIP-ETag:  a b\r\n\r\n"))
	f.Add([]byte("SIP/2.0 412 \xff\xfe\r\nSIP-ETag: \"\r\nExpires: -1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		msg, err := sip.ParseMessage(b)
		res, ok := msg.(*sip.Response)
		if err != nil || !ok {
			return
		}
		o := outcome(res)
		if o.Result == 0 || !utf8.ValidString(o.Reason) || len(o.Reason) > maxReason {
			t.Errorf("%+v", o)
		}
		if o.Expires < 0 || o.Expires > maxExpires*time.Second || len(o.Tag) > maxTag ||
			strings.ContainsAny(o.Tag, " \t\r\n\x00;,\"<>") {
			t.Errorf("%+v", o)
		}
		if o.Result != busylamp.Accepted && (o.Tag != "" || o.Expires != 0) {
			t.Errorf("%+v", o)
		}
	})
}
