package stack

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

func newTestStack(t *testing.T) *Stack {
	t.Helper()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Remove(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestOnThePhone(t *testing.T) {
	for document, want := range map[string]bool{
		"": false,
		`<presence><tuple id="x"><status><basic>open</basic></status></tuple></presence>`:               false,
		`<p><r:activities><r:busy/><r:on-the-phone/></r:activities><note>On the phone</note></p>`:       true,
		`<p><activities><activity>on-the-phone</activity></activities></p>`:                             true,
		`<p><activities><busy/></activities><note>on-the-phone</note></p>`:                              false,
		`<p><activities><busy/></activities><on-the-phone/></p>`:                                        false,
		`<p><activities><on-the-phone`:                                                                  false,
		`<p><person><activities><a/></activities></person><activities><on-the-phone/></activities></p>`: true,
	} {
		if got := onThePhone(document); got != want {
			t.Errorf("onThePhone(%s) = %v", document, got)
		}
	}
}

// publish sends a PUBLISH and returns the answer.
func publish(t *testing.T, a *agent, branch, tag, expires string) *message {
	t.Helper()
	extra := "Event: presence\r\nExpires: " + expires + "\r\n"
	if tag != "" {
		extra += "SIP-If-Match: " + tag + "\r\n"
	}
	m, err := a.do(t.Context(), request{method: "PUBLISH", uri: "sip:alice@example.com", branch: branch, cseq: 1,
		from: "<sip:alice@example.com>;tag=1", to: "<sip:alice@example.com>", callID: branch, extra: extra})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestRecorderKeepsTheTagChain(t *testing.T) {
	s := newTestStack(t)
	r, err := s.Recorder()
	if err != nil {
		t.Fatal(err)
	}
	var a agent
	if err := a.open(r.Addr, func(*message, netip.AddrPort) {}, nil); err != nil {
		t.Fatal(err)
	}
	defer a.socket.close()
	first := publish(t, &a, "z9hG4bK1", "", "60").get("sip-etag")
	if again := publish(t, &a, "z9hG4bK1", "", "60").get("sip-etag"); again != first {
		t.Errorf("a repetition got the tag %q, not %q", again, first)
	}
	second := publish(t, &a, newBranch(), first, "60").get("sip-etag")
	if m := publish(t, &a, newBranch(), first, "60"); m.status() != 412 {
		t.Errorf("a used tag got %q", m.start)
	}
	if m := publish(t, &a, newBranch(), second, "0"); m.status() != 200 || m.get("expires") != "0" {
		t.Errorf("the removal got %q, Expires %s", m.start, m.get("expires"))
	}
	if m := publish(t, &a, newBranch(), second, "0"); m.status() != 412 {
		t.Errorf("a second removal got %q", m.start)
	}
	var kinds []string
	for _, p := range r.All() {
		kinds = append(kinds, p.Kind())
	}
	if got := strings.Join(kinds, " "); got != "initial refresh refresh remove remove" {
		t.Errorf("recorded %s", got)
	}
	if requests, repeats := r.Count(); requests != 5 || repeats != 1 {
		t.Errorf("%d requests and %d repetitions, not 5 and 1", requests, repeats)
	}
}

func TestCompare(t *testing.T) {
	if err := Compare(map[string]int{"a": 1}, map[string]int{"a": 2}); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ lit, inCalls map[string]int }{
		{map[string]int{"a": 1}, nil},
		{nil, map[string]int{"a": 1}},
	} {
		if Compare(c.lit, c.inCalls) == nil {
			t.Errorf("lit %v agrees with calls %v", c.lit, c.inCalls)
		}
	}
}

func TestEarlyDeathIsTold(t *testing.T) {
	s := newTestStack(t)
	p, err := s.start(program{name: "liar", path: "/bin/sh", args: []string{"-c", "echo my last words; exit 3"}})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Wait(context.Background(), 5*time.Second, "what never comes", func() error { return os.ErrNotExist })
	if err == nil || !strings.Contains(err.Error(), "my last words") || !strings.Contains(err.Error(), "liar") ||
		!strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("the error is: %v", err)
	}
	if code, ended := p.Exited(); code != 3 || !ended {
		t.Errorf("exit code %d, ended %v", code, ended)
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	s := newTestStack(t)
	r, err := s.Recorder()
	if err != nil {
		t.Fatal(err)
	}
	port := int(r.socket.addr.Port())
	_, err = s.Proxy(t.Context(), KamailioOptions{Port: port})
	if err == nil || !strings.Contains(err.Error(), r.Addr) {
		t.Errorf("the error is: %v", err)
	}
}
