package busylamp

import (
	"fmt"
	"testing"
	"time"
)

// TestFormerTagWithoutAnswer: the removal under a former tag is tried once.
func TestFormerTagWithoutAnswer(t *testing.T) {
	s := newScript(t)
	s.e.publishers[0].sentinel = false
	s.busy(true)
	s.settled(s.expect(Initial, ""), ok("foreign", 600*time.Second))
	s.await()
	for range tagDoubted {
		r := s.out[0]
		s.out = nil
		s.settled(r, failure)
		s.pass(2 * time.Second)
	}
	s.settled(s.expect(Initial, ""), ok("own", 600*time.Second))
	r := s.expect(Remove, "foreign")
	s.pass(32 * time.Second)
	s.settled(r, timeout)
	if st := s.e.Stats().Publishers[0]; st.Refused != 0 || s.e.Views(0, 1)[0].Publications[0].LastCode != 200 {
		t.Errorf("the former tag's removal is told as the user's: %+v", s.e.Views(0, 1))
	}
	s.busy(false)
	s.settled(s.expect(Remove, "own"), ok("", 0))
}

// TestBareRefresh: a 200 to a refresh that has no tag leaves the one that was known.
func TestBareRefresh(t *testing.T) {
	s := newScript(t)
	s.busy(true)
	s.settled(s.expect(Initial, ""), ok("t1", 60*time.Second))
	s.await()
	s.settled(s.expect(Refresh, "t1"), ok("", 60*time.Second))
	s.busy(false)
	s.settled(s.expect(Remove, "t1"), ok("", 0))
}

// TestBareServerTakesNoRemoval: a server that gives no tags, and takes no removal without
// one, keeps its publication until it lapses. The next call is published all the same.
func TestBareServerTakesNoRemoval(t *testing.T) {
	s := newScript(t)
	s.busy(true)
	s.settled(s.expect(Initial, ""), ok("", 600*time.Second))
	s.busy(false)
	s.settled(s.expect(Remove, ""), Outcome{Result: Refused, Code: 400})
	if st := s.e.Stats(); st.People != 0 || st.Publishers[0].Refused != 0 {
		t.Errorf("%d people are kept, %d refused", st.People, st.Publishers[0].Refused)
	}
	s.busy(true)
	s.settled(s.expect(Initial, ""), ok("", 600*time.Second))
	s.busy(false)
	s.settled(s.expect(Remove, ""), refusal) // it may well be removed later
	s.pass(10 * time.Minute)
	s.expect(Remove, "")
}

// TestGoneWithoutTag: a 412 to a request without a tag makes no sense. It is tried again
// with a back-off that begins low, as after any failure.
func TestGoneWithoutTag(t *testing.T) {
	s := newScript(t)
	s.busy(true)
	var at []time.Duration
	for range 4 {
		s.await()
		at = append(at, s.now)
		s.settled(s.expect(Initial, ""), gone)
	}
	if at[1]-at[0] > time.Second || at[3]-at[2] < 1500*time.Millisecond {
		t.Errorf("tried at %v", at)
	}
}

// TestRefusedThenEnded: a lamp that should go out waits a minute for a server that refused
// its refresh, not as long as the refusals have grown to.
func TestRefusedThenEnded(t *testing.T) {
	l := newLine(t, PublisherConfig{NoSentinel: true, Expires: 2 * time.Hour})
	l.answer = func(r Request) (time.Duration, Outcome) {
		if r.Kind == Refresh || r.Kind == Modify {
			return time.Millisecond, Outcome{Result: Refused, Code: 403}
		}
		return l.well(r)
	}
	l.call(24 * time.Hour)
	for len(l.sent) < 2+2*6 {
		l.pass(time.Second)
	}
	ended := l.now
	l.e.Calls(0, []CallEvent{{Dialog: l.up[0], Stage: Ended}})
	for l.wrong() > 0 {
		l.pass(time.Second)
	}
	if d := l.now - ended; d > refusedStuck*5/4+time.Second {
		t.Errorf("dark %v after the call", d)
	}
}

// TestRefusedUntil: but what the server asked for holds.
func TestRefusedUntil(t *testing.T) {
	s := newScript(t)
	s.e.publishers[0].sentinel = false
	s.busy(true)
	s.settled(s.expect(Initial, ""), ok("t1", time.Hour))
	s.await()
	o := refusal
	o.RetryAfter = 5 * time.Minute
	s.settled(s.expect(Refresh, "t1"), o)
	s.busy(false)
	s.quiet(5*time.Minute - time.Second)
	s.pass(2 * time.Second)
	s.expect(Remove, "t1")
}

// TestTurnedAwayIsForgotten: as soon as the server has said something else.
func TestTurnedAwayIsForgotten(t *testing.T) {
	s := newScript(t)
	s.pass(time.Second)
	s.busy(true)
	s.settled(s.expect(Initial, ""), ok("t1", time.Hour))
	s.busy(false)
	s.settled(s.expect(Remove, "t1"), Outcome{Result: Unavailable, Code: 503, RetryAfter: 2 * time.Second})
	s.pass(4 * time.Second)
	s.settled(s.expect(Remove, "t1"), gone)
	if n := s.e.Stats().People; n != 0 {
		t.Errorf("%d people are kept", n)
	}
}

// TestGrowing423: a server that always wants more is not asked as fast as it answers.
func TestGrowing423(t *testing.T) {
	l := newLine(t, PublisherConfig{NoSentinel: true})
	l.answer = func(r Request) (time.Duration, Outcome) {
		return time.Millisecond, Outcome{Result: TooBrief, Code: 423, MinExpires: r.Expires + time.Second}
	}
	l.call(time.Hour)
	l.pass(10 * time.Second)
	if n := len(l.sent); n > 20 {
		t.Errorf("%d requests in 10 s", n)
	}
}

// TestTooBrief: the lifetime that the server wants is taken for everybody, and told once.
func TestTooBrief(t *testing.T) {
	l := newLine(t, PublisherConfig{Expires: 60 * time.Second})
	l.server.least = 90 * time.Second
	l.call(time.Hour)
	l.pass(time.Second)
	l.call(time.Hour)
	l.pass(10 * time.Minute)
	if n := l.wrong(); n != 0 {
		t.Errorf("%d users wrong", n)
	}
	brief := l.e.Stats().Publishers[0].Codes[423]
	if brief == 0 || brief > 2 {
		t.Errorf("%d answers of 423", brief)
	}
	if got := l.e.Stats().Publishers[0].Expires; got != 90*time.Second {
		t.Errorf("asks for %v", got)
	}
}

// TestTooBriefWithoutSense: a 423 that asks for nothing, or for the moon, is a refusal.
func TestTooBriefWithoutSense(t *testing.T) {
	for _, least := range []time.Duration{0, time.Second, 600 * time.Second, 25 * time.Hour} {
		s := newScript(t)
		s.busy(true)
		s.settled(s.expect(Initial, ""), Outcome{Result: TooBrief, Code: 423, MinExpires: least})
		s.quiet(20 * time.Second)
		s.pass(25 * time.Second)
		s.settled(s.expect(Initial, ""), ok("t", 600*time.Second))
		s.busy(false)
		s.settled(s.expect(Remove, "t"), Outcome{Result: TooBrief, Code: 423, MinExpires: time.Hour})
		s.quiet(20 * time.Second)
	}
}

// TestForeignTag: a server that fails at a tag that is not its own gets a fresh
// publication, and is told to forget what it may have under the tag.
func TestForeignTag(t *testing.T) {
	s := newScript(t)
	s.e.publishers[0].sentinel = false
	s.busy(true)
	s.settled(s.expect(Initial, ""), ok("foreign", 600*time.Second))
	s.await()
	for i := range tagDoubted {
		kind := map[bool]Kind{true: Refresh, false: Modify}[i == 0] // unsure: with the body
		s.settled(s.expect(kind, "foreign"), failure)
		s.pass(10 * time.Second)
	}
	s.settled(s.expect(Initial, ""), ok("own", 600*time.Second))
	s.settled(s.expect(Remove, "foreign"), failure)
	s.quiet(100 * time.Second)
	s.busy(false)
	s.settled(s.expect(Remove, "own"), ok("", 0))
}

// TestFailingServerKeepsTheTag: when a request without the tag fails as well, it was not
// the tag.
func TestFailingServerKeepsTheTag(t *testing.T) {
	s := newScript(t)
	s.busy(true)
	s.settled(s.expect(Initial, ""), ok("t1", 600*time.Second))
	s.e.publishers[0].sentinel = false
	s.await()
	for _, want := range []string{"t1", "t1", "t1", "", "t1", "", "t1"} {
		if len(s.out) != 1 || s.out[0].Tag != want {
			t.Fatalf("at %v: %+v, want tag %q", s.now, s.out, want)
		}
		r := s.out[0]
		s.out = nil
		s.settled(r, failure)
		s.await()
	}
}

// TestRefusalIsRemembered: the next call of somebody who was refused waits for the rest of
// the delay, and the delay grows from call to call.
func TestRefusalIsRemembered(t *testing.T) {
	l := newLine(t, PublisherConfig{})
	l.answer = func(Request) (time.Duration, Outcome) { return 0, refusal }
	for i := range 360 { // a call of 5 s every 10 s, for an hour
		id := DialogID{1, uint32(i)}
		l.e.Calls(0, []CallEvent{{Dialog: id, Stage: Confirmed, Caller: user(1)}})
		l.pass(5 * time.Second)
		l.e.Calls(0, []CallEvent{{Dialog: id, Stage: Ended}})
		l.pass(5 * time.Second)
	}
	if n := len(l.sent); n < 5 || n > 13 {
		t.Errorf("%d requests in an hour", n)
	}
	if n := l.e.Stats().Publishers[0].Refused; n != 1 {
		t.Errorf("%d refused", n)
	}
	l.pass(refusedMemory + time.Minute)
	if st := l.e.Stats(); st.People != 0 || st.Publishers[0].Refused != 0 {
		t.Errorf("still kept: %+v", st)
	}
}

// TestWants: a publisher gets those whom it wants, and what an earlier configuration
// published of others is removed.
func TestWants(t *testing.T) {
	e, err := New(Config{Proxies: []string{"p"}, Directory: testDirectory{}, Publishers: []PublisherConfig{
		{Name: "all"}, {Name: "one", Wants: func(p Presentity) bool { return p == Presentity(user(1)) }}}})
	if err != nil {
		t.Fatal(err)
	}
	e.TakeOver([]Record{{Publisher: "one", Presentity: Presentity(user(2)), Tag: "old", State: OnThePhone, Expires: time.Minute}})
	e.Calls(0, []CallEvent{{Dialog: DialogID{1, 1}, Stage: Confirmed, Caller: user(1), Callee: user(2)}})
	got := map[string]bool{}
	for _, w := range e.Take().Publish {
		got[fmt.Sprint(w.Publisher, " ", w.Request.Kind, " ", w.Request.Presentity, " ", w.Request.Tag)] = true
	}
	for _, want := range []string{"0 initial " + user(1) + " ", "0 initial " + user(2) + " ", "1 initial " + user(1) + " ", "1 remove " + user(2) + " old"} {
		if !got[want] {
			t.Errorf("not sent: %q (sent %v)", want, got)
		}
	}
	if len(got) != 4 {
		t.Errorf("sent %v", got)
	}
}
