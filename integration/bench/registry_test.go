package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// publishText writes a PUBLISH as a user agent would.
func publishText(user, branch, ifMatch string, expires int, body string) []byte {
	match := ""
	if ifMatch != "" {
		match = "SIP-If-Match: " + ifMatch + "\r\n"
	}
	return []byte(fmt.Sprintf("PUBLISH sip:%s@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=%s\r\n"+
		"From: <sip:%s@example.com>;tag=1\r\nTo: <sip:%s@example.com>\r\nCall-ID: c\r\nCSeq: 1 PUBLISH\r\n%sExpires: %d\r\nContent-Length: %d\r\n\r\n%s",
		user, branch, user, user, match, expires, len(body), body))
}

const busy = "<rpid:on-the-phone/>"

// send publishes and returns the answer's status and entity-tag.
func send(t *testing.T, r *registry, text []byte, at int64) (status int, tag string) {
	t.Helper()
	m, ok := parseRequest(text)
	if !ok {
		t.Fatalf("not understood: %s", text)
	}
	status, n := r.publish(m, at)
	answer := string(appendResponse(nil, m, status, n))
	if !strings.HasPrefix(answer, fmt.Sprintf("SIP/2.0 %d ", status)) || !strings.Contains(answer, "\r\nVia: "+string(m.via)+"\r\n") ||
		!strings.HasSuffix(answer, "\r\nContent-Length: 0\r\n\r\n") {
		t.Fatalf("the answer is %q", answer)
	}
	_, rest, _ := strings.Cut(answer, "SIP-ETag: ")
	tag, _, _ = strings.Cut(rest, "\r\n")
	return status, tag
}

func TestRegistry(t *testing.T) {
	r := newRegistry()
	status, first := send(t, r, publishText("a1", "z1", "", 600, busy), 1)
	if status != 200 || first == "" {
		t.Fatalf("initial: %d %q", status, first)
	}
	if again, tag := send(t, r, publishText("a1", "z1", "", 600, busy), 2); again != 200 || tag != first {
		t.Errorf("repeated: %d %q, want the same tag %q", again, tag, first)
	}
	status, second := send(t, r, publishText("a1", "z2", first, 600, ""), 3)
	if status != 200 || second == first {
		t.Errorf("refresh: %d %q", status, second)
	}
	if live, lit := r.live(4); live != 1 || lit != 1 {
		t.Errorf("live %d, lit %d after a refresh without a body", live, lit)
	}
	for name, tag := range map[string]string{"old": first, "strange": "strange", "somebody else's": tagPrefix + "100000000"} {
		if status, _ := send(t, r, publishText("a1", "z3"+name, tag, 600, busy), 5); status != 412 {
			t.Errorf("an %s tag: %d, want 412", name, status)
		}
	}
	send(t, r, publishText("a1", "z4", "", 600, busy), 6)
	if live, lit := r.live(7); live != 2 || lit != 2 {
		t.Errorf("live %d, lit %d after a second initial one", live, lit)
	}
	if status, _ := send(t, r, publishText("a1", "z5", second, 0, ""), 8); status != 200 {
		t.Errorf("remove: %d", status)
	}
	if live, _ := r.live(int64(600*time.Second) + 5); live != 1 {
		t.Errorf("live %d shortly before the end", live)
	}
	if live, _ := r.live(int64(600*time.Second) + 7); live != 0 {
		t.Errorf("live %d after the end", live)
	}
	want := Counts{Initial: 2, Refresh: 1, Remove: 1, Unknown: 3, Repeats: 1}
	if r.Counts != want || r.confirmed() != 1 {
		t.Errorf("counts %+v of %d users, want %+v of 1", r.Counts, r.confirmed(), want)
	}
}

// TestTerminated: pua_dialoginfo's last document says that the dialog is over, and lives on for
// some seconds: that user is not lit.
func TestTerminated(t *testing.T) {
	r := newRegistry()
	_, tag := send(t, r, publishText("b7", "z1", "", 43200, "<state>early</state>"), 1)
	if _, lit := r.live(1); lit != 1 || r.confirmed() != 0 {
		t.Errorf("early: lit %d, confirmed %d", lit, r.confirmed())
	}
	_, tag = send(t, r, publishText("b7", "z2", tag, 43200, "<state>confirmed</state>"), 2)
	send(t, r, publishText("b7", "z3", tag, 10, "<state>terminated</state>"), 3)
	if live, lit := r.live(4); live != 1 || lit != 0 || r.confirmed() != 1 {
		t.Errorf("live %d, lit %d, confirmed %d", live, lit, r.confirmed())
	}
}

func TestLatencies(t *testing.T) {
	r := newRegistry()
	ok200 := func(n int) []byte {
		return fmt.Appendf(nil, "SIP/2.0 200 OK\r\nFrom: <sip:a%d@example.com>;tag=1\r\nTo: <sip:b%d@example.com>;tag=2\r\nCSeq: 1 INVITE\r\n\r\n", n, n)
	}
	for n := range 3 {
		caller, callee, ok := answeredUsers(ok200(n))
		if !ok || caller != 2*n || callee != 2*n+1 {
			t.Fatalf("call %d: %d %d %v", n, caller, callee, ok)
		}
		r.users[caller].answered, r.users[callee].answered = 1000, 1000
		send(t, r, publishText(fmt.Sprintf("a%d", n), fmt.Sprint("z", n), "", 600, busy), 1000+int64(3-n))
	}
	times, none := r.latencies()
	if fmt.Sprint(times) != "[1ns 2ns 3ns]" || none != 3 {
		t.Errorf("times %v, %d without", times, none)
	}
	if _, _, ok := answeredUsers([]byte("SIP/2.0 200 OK\r\nFrom: <sip:a1@e>\r\nTo: <sip:b1@e>\r\nCSeq: 2 BYE\r\n\r\n")); ok {
		t.Error("a BYE's 200 is taken for an INVITE's")
	}
}

// TestRefused: nothing from outside is trusted to be whole.
func TestRefused(t *testing.T) {
	whole := string(publishText("a1", "z1", "", 600, busy))
	for n := range whole {
		if m, ok := parseRequest([]byte(whole[:n])); ok {
			newRegistry().publish(m, 1)
		}
		answeredUsers([]byte(whole[:n]))
	}
	for _, user := range []string{"", "a", "c1", "a1x", "a9999999", "a-1"} {
		if _, ok := place([]byte(user)); ok {
			t.Errorf("user %q has a place", user)
		}
	}
}

// TestResponderAllocates: beside the measured, a request must cost next to nothing.
func TestResponderAllocates(t *testing.T) {
	r, text, room := newRegistry(), publishText("a1", "z1", "", 600, busy), make([]byte, 0, 1024)
	n := testing.AllocsPerRun(1000, func() {
		r.users[2].branch = 0 // not a repetition
		m, _ := parseRequest(text)
		status, tag := r.publish(m, 1)
		appendResponse(room, m, status, tag)
	})
	if n > 0 {
		t.Errorf("%v allocations for a request", n)
	}
}
