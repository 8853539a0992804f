package compositor

import (
	"testing"
	"time"
)

const alice = "sip:alice@example.com"

// TestFaults: what a real server of the contract's suite cannot be brought to do.
func TestFaults(t *testing.T) {
	s := Server{Least: time.Minute, Most: time.Hour}
	publish := func(tag string, life time.Duration, body string, want Response) Response {
		t.Helper()
		got := s.Publish(Request{Presentity: alice, Tag: tag, Expires: life, Body: body}, 0)
		if want.Code == 200 {
			want.Tag = got.Tag
		}
		if got != want {
			t.Fatalf("tag %q, %v, body %q: %+v, want %+v", tag, life, body, got, want)
		}
		return got
	}
	publish("", time.Second, "busy", Response{Code: 423, MinExpires: time.Minute})
	publish("", time.Minute, "", Response{Code: 400})
	publish("", 0, "", Response{Code: 400})
	first := publish("", 2*time.Hour, "busy", Response{Code: 200, Expires: time.Hour})
	publish(first.Tag, time.Second, "", Response{Code: 423, MinExpires: time.Minute}) // and it lives on
	publish("tag0.99", time.Second, "", Response{Code: 412})                          // step 3 comes before step 4
	s.ForgetsBodies = true
	second := publish(first.Tag, time.Minute, "", Response{Code: 200, Expires: time.Minute})
	if p := s.Published(alice, 0); len(p) != 1 || p[0].Body != "" || p[0].Tag != second.Tag {
		t.Fatalf("after a refresh that loses the body: %+v", p)
	}
	s.Forget()
	publish(second.Tag, time.Minute, "busy", Response{Code: 412})
	s.Replace()
	publish(second.Tag, time.Minute, "busy", Response{Code: 500})
	publish(second.Tag, 0, "", Response{Code: 412})
	if p := s.Published(alice, 0); len(p) != 0 {
		t.Fatalf("after all: %+v", p)
	}
}
