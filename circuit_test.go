package busylamp

import (
	"testing"
	"time"
)

// line is a server in simulated time: answer tells when and how a request ends.
type line struct {
	t      *testing.T
	e      *Engine
	now    time.Duration
	server *simServer
	answer func(r Request) (after time.Duration, o Outcome)
	due    []pending
	sent   []sending
	serial uint32
	up     []DialogID
	queue  []time.Duration // when the oldest calls of up end
}

type pending struct {
	at time.Duration
	r  Request
	o  Outcome
}

type sending struct {
	at time.Duration
	r  Request
}

func newLine(t *testing.T, cfg PublisherConfig) *line {
	cfg.Name = "s"
	e, err := New(Config{Proxies: []string{"p"}, Directory: testDirectory{}, Publishers: []PublisherConfig{cfg},
		Seed: 1, Hold: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	l := &line{t: t, e: e, server: &simServer{entries: map[Presentity]map[string]simEntry{}}}
	l.answer = l.well
	return l
}

// well answers within a millisecond.
func (l *line) well(r Request) (time.Duration, Outcome) {
	return time.Millisecond, l.server.take(r, l.now)
}

func (l *line) collect() {
	for _, p := range l.e.Take().Publish {
		l.sent = append(l.sent, sending{l.now, p.Request})
		after, o := l.answer(p.Request)
		l.due = append(l.due, pending{l.now + after, p.Request, o})
	}
}

// step lets 10 ms pass.
func (l *line) step() {
	l.now += 10 * time.Millisecond
	l.e.Advance(l.now)
	l.collect()
	for progress := true; progress; {
		progress = false
		due := l.due
		l.due = nil
		for _, p := range due {
			if p.at > l.now {
				l.due = append(l.due, p)
				continue
			}
			l.e.Settled(p.r, p.o)
			l.collect()
			progress = true
		}
	}
}

func (l *line) pass(d time.Duration) {
	for end := l.now + d; l.now < end; {
		l.step()
	}
}

// call lets two of many users talk for a while.
func (l *line) call(lasts time.Duration) {
	l.serial++
	id := DialogID{1, l.serial}
	n := int(l.serial) * 2
	l.e.Calls(0, []CallEvent{{Dialog: id, Stage: Confirmed, Caller: user(n % 40_000), Callee: user((n + 1) % 40_000)}})
	l.up, l.queue = append(l.up, id), append(l.queue, l.now+lasts)
}

// load is calls at a rate, each as long as the others.
func (l *line) load(d, every, lasts time.Duration) {
	next := l.now
	for end := l.now + d; l.now < end; l.step() {
		for ; next <= l.now; next += every {
			l.call(lasts)
		}
		for len(l.queue) > 0 && l.queue[0] <= l.now {
			l.e.Calls(0, []CallEvent{{Dialog: l.up[0], Stage: Ended}})
			l.up, l.queue = l.up[1:], l.queue[1:]
		}
	}
}

// wrong counts the users whom the server shows as they are not.
func (l *line) wrong() (n int) {
	for _, v := range l.e.Views(0, 1_000_000) {
		entries := l.server.live(v.Presentity, l.now)
		if busy := v.State.Published(); busy != (len(entries) == 1) || len(entries) > 1 {
			n++
		}
	}
	for who := range l.server.entries {
		if _, known := l.e.View(who); !known && len(l.server.live(who, l.now)) > 0 {
			n++
		}
	}
	return n
}

// TestDeadForTenMinutes: a server that is dead for 10 minutes under 100 calls a second is
// probed, and right at once when it is back.
func TestDeadForTenMinutes(t *testing.T) {
	for _, dead := range []struct {
		name   string
		answer func(Request) (time.Duration, Outcome)
		most   int // requests a second, after the first 3 s
	}{
		{"black hole", func(Request) (time.Duration, Outcome) {
			return 32 * time.Second, Outcome{Result: Unavailable, Reason: "no answer"}
		}, 2},
		{"refused connection", func(Request) (time.Duration, Outcome) {
			return 0, Outcome{Result: Unavailable, Reason: "connection refused"}
		}, 2},
		{"503", func(Request) (time.Duration, Outcome) {
			return time.Millisecond, Outcome{Result: Unavailable, Code: 503}
		}, 2},
		{"503 with Retry-After", func(Request) (time.Duration, Outcome) {
			return time.Millisecond, Outcome{Result: Unavailable, Code: 503, RetryAfter: 10 * time.Second}
		}, 2},
		{"500", func(Request) (time.Duration, Outcome) {
			return time.Millisecond, Outcome{Result: Failed, Code: 500}
		}, 2},
	} {
		t.Run(dead.name, func(t *testing.T) {
			t.Parallel()
			l := newLine(t, PublisherConfig{})
			l.load(time.Minute, 10*time.Millisecond, 30*time.Second)
			if n := l.wrong(); n > 8 {
				t.Fatalf("%d users wrong before", n)
			}
			begin, before := l.now, len(l.sent)
			l.answer = dead.answer
			l.load(10*time.Minute, 10*time.Millisecond, 30*time.Second)
			perSecond := map[time.Duration]int{}
			most := 0
			for _, s := range l.sent[before:] {
				if s.at > begin+silence+time.Second {
					sec := s.at / time.Second
					perSecond[sec]++
					most = max(most, perSecond[sec])
				}
			}
			if most > dead.most {
				t.Errorf("%d requests in a second into the silence", most)
			}
			if !l.e.Stats().Publishers[0].Down {
				t.Error("not known to be down")
			}
			total := len(l.sent) - before
			back := l.now
			l.answer = l.well
			for i := 0; (l.wrong() > 8 || l.e.Stats().Publishers[0].Down) && i < 60; i++ {
				l.load(time.Second, 10*time.Millisecond, 30*time.Second)
			}
			converged := l.now - back
			if converged > 30*time.Second { // I8
				t.Errorf("right after %v", converged)
			}
			t.Logf("%d requests into the silence in 10 minutes (%.2f a second, %d in the worst), right %v after", total, float64(total)/600, most, converged)
		})
	}
}

// TestSilence: once a server has been silent for 3 s, requests go out one by one, with
// pauses that grow to 5 s, even where there is room for many.
func TestSilence(t *testing.T) {
	l := newLine(t, PublisherConfig{})
	l.answer = func(Request) (time.Duration, Outcome) {
		return 32 * time.Second, Outcome{Result: Unavailable, Reason: "no answer"}
	}
	l.load(31*time.Second, 100*time.Millisecond, time.Hour) // 20 users a second
	var probes []time.Duration
	for _, s := range l.sent {
		if s.at > silence+100*time.Millisecond {
			probes = append(probes, s.at)
		}
	}
	if len(probes) < 5 || len(probes) > 11 {
		t.Errorf("%d requests into the silence: at %v", len(probes), probes)
	}
}

// TestSlowServer: 5 s for every answer do not make a second request of any.
func TestSlowServer(t *testing.T) {
	l := newLine(t, PublisherConfig{})
	l.answer = func(r Request) (time.Duration, Outcome) { return 5 * time.Second, l.server.take(r, l.now) }
	for i := range 100 {
		l.e.Calls(0, []CallEvent{{Dialog: DialogID{1, uint32(i)}, Stage: Confirmed, Caller: user(2 * i), Callee: user(2*i + 1)}})
	}
	l.pass(20 * time.Second)
	if len(l.sent) < 200 || len(l.sent) > 204 { // a few sentinels
		t.Errorf("%d requests for 200 users", len(l.sent))
	}
	if n := l.wrong(); n != 0 {
		t.Errorf("%d users wrong", n)
	}
}

// TestRetryAfter: a 503 with Retry-After stops everything for so long, to the second.
func TestRetryAfter(t *testing.T) {
	l := newLine(t, PublisherConfig{})
	l.answer = func(Request) (time.Duration, Outcome) {
		return 0, Outcome{Result: Unavailable, Code: 503, RetryAfter: 7 * time.Second}
	}
	l.call(time.Hour)
	l.step()
	told := l.sent[len(l.sent)-1].at
	l.answer = l.well
	n := len(l.sent)
	l.call(time.Hour)
	for l.now < told+7*time.Second-10*time.Millisecond {
		l.step()
	}
	if len(l.sent) != n {
		t.Fatalf("sent %v after a 503 that asked for 7 s", l.sent[n].at-told)
	}
	l.pass(time.Second)
	if n := l.wrong(); n != 0 {
		t.Errorf("%d users wrong 8 s after", n)
	}
}

// TestRetryAfterOfOne: any other answer's Retry-After is for that presentity alone.
func TestRetryAfterOfOne(t *testing.T) {
	for _, o := range []Outcome{{Result: Failed, Code: 500, RetryAfter: 50 * time.Second}, {Result: Refused, Code: 404, RetryAfter: 50 * time.Second}} {
		l := newLine(t, PublisherConfig{NoSentinel: true})
		l.answer = func(r Request) (time.Duration, Outcome) {
			if r.Presentity == Presentity(user(2)) {
				return 0, o
			}
			return l.well(r)
		}
		l.call(time.Hour) // users 2 and 3
		l.pass(49 * time.Second)
		if len(l.sent) != 2 || len(l.server.live(Presentity(user(3)), l.now)) != 1 {
			t.Errorf("%d requests; the other user has %v", len(l.sent), l.server.entries)
		}
		l.pass(2 * time.Second)
		if len(l.sent) != 3 {
			t.Errorf("%d requests after Retry-After", len(l.sent))
		}
	}
}

// lateness lets calls begin at a rate, and returns how long the first request of each user
// but one waited: the worst, and how many more than a second.
func (l *line) lateness(d, every time.Duration, but Presentity) (users, late int, worst time.Duration) {
	born := map[Presentity]time.Duration{}
	seen, next := len(l.sent), l.now
	for end := l.now + d; l.now < end; l.step() {
		for ; next <= l.now; next += every {
			l.call(24 * time.Hour)
			for i := range 2 {
				born[Presentity(user((int(l.serial)*2+i)%40_000))] = l.now
			}
		}
		for ; seen < len(l.sent); seen++ {
			s := l.sent[seen]
			at, isFirst := born[s.r.Presentity]
			if !isFirst || s.r.Presentity == but {
				continue
			}
			delete(born, s.r.Presentity)
			users++
			worst = max(worst, s.at-at)
			if s.at-at > time.Second {
				late++
			}
		}
	}
	return users, late, worst
}

// TestOneWithoutAnswer: one user whose requests the server never answers holds up nobody,
// however rare the others are.
func TestOneWithoutAnswer(t *testing.T) {
	bad := Presentity(user(2))
	for _, every := range []time.Duration{100 * time.Millisecond, time.Second, 4 * time.Second, 10 * time.Second, 30 * time.Second} {
		l := newLine(t, PublisherConfig{NoSentinel: true})
		l.answer = func(r Request) (time.Duration, Outcome) {
			if r.Presentity == bad {
				return 32 * time.Second, Outcome{Result: Unavailable, Reason: "no answer"}
			}
			return l.well(r)
		}
		users, late, worst := l.lateness(30*time.Minute, every, bad)
		asked := 0
		for _, s := range l.sent {
			if s.r.Presentity == bad {
				asked++
			}
		}
		t.Logf("a call every %v: %d users, %d later than 1 s, the worst %v; %d requests for the one", every, users, late, worst, asked)
		if late > 0 || worst > 300*time.Millisecond || asked > 60 {
			t.Errorf("a call every %v: %d of %d users later than 1 s, the worst %v; %d requests for the one", every, late, users, worst, asked)
		}
	}
}

// TestOneTurnedAway: one user for whom the server says 503 again and again holds up the
// others for the first Retry-After at most.
func TestOneTurnedAway(t *testing.T) {
	bad := Presentity(user(2))
	for _, retryAfter := range []time.Duration{0, 60 * time.Second} {
		for _, every := range []time.Duration{100 * time.Millisecond, time.Second, 10 * time.Second} {
			l := newLine(t, PublisherConfig{NoSentinel: true})
			l.answer = func(r Request) (time.Duration, Outcome) {
				if r.Presentity == bad {
					return time.Millisecond, Outcome{Result: Unavailable, Code: 503, RetryAfter: retryAfter}
				}
				return l.well(r)
			}
			l.lateness(2*retryAfter+time.Minute, every, bad)
			users, late, worst := l.lateness(30*time.Minute, every, bad)
			asked := 0
			for _, s := range l.sent {
				if s.r.Presentity == bad {
					asked++
				}
			}
			if late > 0 || asked > 130 {
				t.Errorf("Retry-After %v, a call every %v: %d of %d users later than 1 s, the worst %v; %d requests for the one",
					retryAfter, every, late, users, worst, asked)
			}
		}
	}
}

// TestFewFailuresAreNotAll: users at whom the server fails hold up the others for no longer
// than the pause between two probes.
func TestFewFailuresAreNotAll(t *testing.T) {
	l := newLine(t, PublisherConfig{NoSentinel: true})
	bad := map[Presentity]bool{}
	l.answer = func(r Request) (time.Duration, Outcome) {
		if bad[r.Presentity] {
			return 0, Outcome{Result: Failed, Code: 500}
		}
		return l.well(r)
	}
	for i := range 100 {
		bad[Presentity(user(2*i+2))] = i%2 == 0
		l.call(time.Hour)
	}
	l.pass(30 * time.Second)
	if n := l.wrong(); n != 50 {
		t.Errorf("%d users wrong, want the 50 at whom the server fails", n)
	}
	users, late, worst := l.lateness(30*time.Minute, 10*time.Second, "")
	t.Logf("%d users, %d later than 1 s, the worst %v", users, late, worst)
	if worst > probeMost*5/4+wheelTick {
		t.Errorf("%d of %d users later than 1 s, the worst %v", late, users, worst)
	}
}
