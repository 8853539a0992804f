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
				if strings.HasPrefix(c.Raw, "SIP/2.0 ") {
					return // the answer to "a request"
				}
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
		o := outcome(res, true)
		if o.Result == 0 || !utf8.ValidString(o.Reason) || len(o.Reason) > maxReason {
			t.Errorf("%+v", o)
		}
		if o.Expires < 0 || o.Expires > maxExpires*time.Second || len(o.Tag) > maxTag ||
			strings.ContainsFunc(o.Tag, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Errorf("%+v", o)
		}
		if o.Result != busylamp.Accepted && (o.Tag != "" || o.Expires != 0) {
			t.Errorf("%+v", o)
		}
	})
}
