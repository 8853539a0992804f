package sippublish

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// sequence is an engine in simulated time whose requests go to a scripted server over a
// real socket. Nothing but the answers takes real time, and that is not looked at.
type sequence struct {
	t   *testing.T
	e   *busylamp.Engine
	pub *Publisher
	now time.Duration
	at  []time.Duration // when each PUBLISH of the engine went out

	mu      sync.Mutex
	answers []func(siptest.Request) // still to come, the next one first
	sent    []siptest.Request
	told    int // of sent
}

// everyone is a directory that knows nobody by another name.
type everyone struct{}

func (everyone) Presentity(uri string) (busylamp.Presentity, error) {
	return busylamp.ParsePresentity(uri)
}
func (everyone) DisplayName(busylamp.Presentity) string { return "" }

// newSequence begins with alice on the phone, and lets the server answer so.
func newSequence(t *testing.T, change func(*Config), answers ...func(siptest.Request)) *sequence {
	t.Helper()
	t.Parallel()
	e, err := busylamp.New(busylamp.Config{Directory: everyone{}, Seed: uint64(len(t.Name())),
		Publishers: []busylamp.PublisherConfig{{Name: "test", NoSentinel: true}}})
	if err != nil {
		t.Fatal(err)
	}
	s := &sequence{t: t, e: e, answers: answers}
	srv := siptest.New(t, "udp", "127.0.0.1:0", s.script)
	s.pub = newPublisher(t, srv.Addr(), "udp", change)
	s.claim(busylamp.OnThePhone)
	return s
}

func (s *sequence) script(c siptest.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, c)
	if len(s.answers) == 0 {
		c.Reply(c.Answer("603 Nobody expects this"))
		return
	}
	answer := s.answers[0]
	s.answers = s.answers[1:]
	answer(c)
}

// claim changes what alice is, and lets the engine act on it.
func (s *sequence) claim(state busylamp.State) {
	s.e.Claim(alice, busylamp.Claim{Source: "test", State: state, Since: s.now})
	s.settle()
}

// settle carries out what the engine wants done, until it wants nothing more.
func (s *sequence) settle() {
	for w := s.e.Take(); len(w.Publish) > 0; w = s.e.Take() {
		for _, p := range w.Publish {
			s.at = append(s.at, s.now)
			s.e.Settled(p.Request, s.pub.Publish(s.t.Context(), p.Request))
		}
	}
}

// wait lets simulated time pass.
func (s *sequence) wait(d time.Duration) {
	for end := s.now + d; s.now < end; {
		s.now += min(100*time.Millisecond, end-s.now)
		s.e.Advance(s.now)
		s.settle()
	}
}

// next lets time pass until the engine's next PUBLISH, and returns how much that was.
func (s *sequence) next(most time.Duration) time.Duration {
	s.t.Helper()
	for began, n := s.now, len(s.at); s.now-began < most; s.wait(100 * time.Millisecond) {
		if len(s.at) > n {
			return s.at[n] - began
		}
	}
	s.t.Fatalf("nothing is sent within %v", most)
	return 0
}

// expect compares what came to the server since it was last asked: "initial 600",
// "modify t1 600", "remove t1".
func (s *sequence) expect(want ...string) []siptest.Request {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.sent[s.told:]
	s.told = len(s.sent)
	var got []string
	for _, c := range all {
		kind, tag, expires := "initial", c.Header("SIP-If-Match"), c.Header("Expires")
		switch {
		case expires == "0":
			kind, expires = "remove", ""
		case tag != "" && c.Body() != "":
			kind = "modify"
		case tag != "":
			kind = "refresh"
		}
		got = append(got, strings.Join(strings.Fields(kind+" "+tag+" "+expires), " "))
	}
	if a, b := strings.Join(got, ", "), strings.Join(want, ", "); a != b {
		s.t.Fatalf("at %v the server got\n  %s\nwant\n  %s", s.now, a, b)
	}
	return all
}

// within fails unless a duration is between two others.
func (s *sequence) within(what string, d, least, most time.Duration) {
	s.t.Helper()
	if d < least || d > most {
		s.t.Errorf("%s after %v, want %v to %v", what, d, least, most)
	}
}

// says is an answer.
func says(status string, headers ...string) func(siptest.Request) {
	return func(c siptest.Request) { c.Reply(c.Answer(status, headers...)) }
}

// grants is a 200 with a tag.
func grants(tag string) func(siptest.Request) {
	return says("200 OK", "SIP-ETag: "+tag, "Expires: 600")
}

func unchanged(*Config) {}

// TestSequence412 is 412, then 200, then 408, then the retry.
func TestSequence412(t *testing.T) {
	s := newSequence(t, unchanged, grants("t1"), says("412 Conditional Request Failed"), grants("t2"), says("408 Request Timeout"), grants("t3"))
	s.expect("initial 600")
	s.wait(time.Minute)
	s.claim(busylamp.Busy)
	s.expect("modify t1 600", "initial 600") // at once: the server is well
	s.wait(time.Minute)
	s.claim(busylamp.OnThePhone)
	s.expect("modify t2 600")
	s.within("retry", s.next(time.Minute), 375*time.Millisecond, 725*time.Millisecond)
	s.expect("modify t2 600")
	s.wait(5 * time.Minute)
	s.expect()
}

// TestSequence423: the lifetime that the server grants is asked for at once, and from then on.
func TestSequence423(t *testing.T) {
	hour := says("200 OK", "SIP-ETag: t1", "Expires: 3600")
	s := newSequence(t, unchanged, says("423 Interval Too Brief", "Min-Expires: 3600"), hour, hour, hour)
	s.expect("initial 600", "initial 3600")
	s.within("refresh", s.next(time.Hour), 36*time.Minute, 48*time.Minute+time.Second)
	s.expect("refresh t1 3600")
	s.claim(busylamp.Busy)
	s.expect("modify t1 3600")
	if got := s.e.Stats().Publishers[0].Expires; got != time.Hour {
		t.Errorf("asks for %v", got)
	}
}

// challenged is a 401 with a nonce.
func challenged(nonce string, more ...string) func(siptest.Request) {
	return says("401 Unauthorized", strings.Join(append([]string{`WWW-Authenticate: Digest realm="r", qop="auth", nonce="` + nonce + `"`}, more...), ", "))
}

// TestSequence401Stale: after the first challenge, and after a stale one, every PUBLISH
// costs one transaction, with the nonce's count rising.
func TestSequence401Stale(t *testing.T) {
	s := newSequence(t, func(c *Config) { c.Username, c.Password = "busylamp", "secret" },
		challenged("n1"), grants("t1"), grants("t2"), grants("t3"), challenged("n2", "stale=true"), grants("t4"), grants("t5"), grants("t6"))
	for range 5 {
		s.next(10 * time.Minute)
	}
	all := s.expect("initial 600", "initial 600", "refresh t1 600", "refresh t2 600",
		"refresh t3 600", "refresh t3 600", "refresh t4 600", "refresh t5 600")
	for i, want := range []string{"1 ", "2 n1 00000001", "1 n1 00000002", "1 n1 00000003", "1 n1 00000004", "2 n2 00000001", "1 n2 00000002", "1 n2 00000003"} {
		got := strings.TrimSuffix(all[i].Header("CSeq"), " PUBLISH") + " "
		for _, p := range strings.Split(all[i].Header("Authorization"), ", ") {
			name, value, _ := strings.Cut(p, "=")
			if name == "nonce" {
				got += strings.Trim(value, `"`)
			}
			if name == "nc" {
				got += " " + value
			}
		}
		if got != want {
			t.Errorf("request %d: CSeq, nonce and nc %q, want %q", i, got, want)
		}
	}
	for _, i := range []int{0, 4} { // the retry is the same request
		for _, name := range []string{"Call-ID", "From"} {
			if all[i].Header(name) != all[i+1].Header(name) {
				t.Errorf("%s: %s, then %s", name, all[i].Header(name), all[i+1].Header(name))
			}
		}
	}
}

// TestSequence401Wrong: a wrong password is tried for one user, and then for nobody for a
// while, lest we be locked out.
func TestSequence401Wrong(t *testing.T) {
	no := challenged("n1")
	s := newSequence(t, func(c *Config) { c.Username, c.Password = "busylamp", "wrong" }, no, no, no, no, no, no)
	s.expect("initial 600", "initial 600")
	s.within("retry", s.next(time.Hour), 29*time.Second, 38*time.Second)
	s.expect("initial 600", "initial 600")
	v, _ := s.e.View(alice)
	if want := `Unauthorized: the server refused user "busylamp" for realm "r": check username and password`; v.Publications[0].LastReason != want {
		t.Errorf("reason %q, want %q", v.Publications[0].LastReason, want)
	}
	if !s.e.Stats().Publishers[0].Down {
		t.Error("the next user would be refused as well")
	}
}

// TestSequence503RetryAfter: a server that asks for 7 s has them, to the second, and then
// learns the latest state.
func TestSequence503RetryAfter(t *testing.T) {
	s := newSequence(t, unchanged, says("503 Service Unavailable", "Retry-After: 7"), grants("t1"))
	s.expect("initial 600")
	s.wait(3 * time.Second)
	s.claim(busylamp.Busy)
	s.claim(busylamp.OnThePhone)
	s.wait(4*time.Second - 100*time.Millisecond)
	s.expect()
	s.wait(1100 * time.Millisecond)
	s.expect("initial 600")
	s.within("retry", s.at[1]-s.at[0], 7*time.Second, 8*time.Second)
}

// TestSequence200Bare: a 200 with neither a tag nor a lifetime. The state is repeated in
// time, as an initial one, and removed without a tag, as there is none.
func TestSequence200Bare(t *testing.T) {
	ok := says("200 OK")
	s := newSequence(t, unchanged, ok, ok, ok)
	s.expect("initial 600")
	s.within("refresh", s.next(10*time.Minute), 6*time.Minute, 8*time.Minute+time.Second)
	s.expect("initial 600")
	s.claim(busylamp.Unknown)
	s.expect("remove")
	s.wait(time.Hour)
	s.expect()
	if n := s.e.Live(); n != 0 {
		t.Errorf("%d publications are left", n)
	}
}

// TestSequence500Tag: a tag that the server fails at three times is given up, and what may
// be there under it is removed.
func TestSequence500Tag(t *testing.T) {
	no := says("500 Server Internal Error")
	s := newSequence(t, unchanged, grants("t1"), no, no, no, grants("t2"), no, grants("t3"))
	s.expect("initial 600")
	s.claim(busylamp.Busy)
	s.expect("modify t1 600")
	for i := range 2 {
		s.within(fmt.Sprint("retry ", i), s.next(time.Minute), 375*time.Millisecond, 725*time.Millisecond)
		s.expect("modify t1 600")
	}
	s.within("fresh one", s.next(time.Minute), 375*time.Millisecond, 725*time.Millisecond)
	s.expect("initial 600", "remove t1")
	s.claim(busylamp.OnThePhone)
	s.expect("modify t2 600")
}
