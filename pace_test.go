package busylamp

import (
	"testing"
	"time"
)

// TestRefreshesAreSpread: 10,000 publications that begin in the same second are refreshed
// over an hour, and no second has more than twice the mean.
func TestRefreshesAreSpread(t *testing.T) {
	for _, life := range []time.Duration{600 * time.Second, time.Hour} {
		t.Run(life.String(), func(t *testing.T) {
			t.Parallel()
			const n = 10_000
			l := newLine(t, PublisherConfig{Expires: life, NoSentinel: true})
			for range n / 2 {
				l.call(24 * time.Hour)
			}
			l.pass(time.Second)
			if len(l.sent) != n {
				t.Fatalf("%d requests for %d users", len(l.sent), n)
			}
			var perSecond [3600]int
			l.pass(time.Hour)
			most, total := 0, 0
			for _, s := range l.sent[n:] {
				if s.r.Kind != Refresh {
					t.Fatalf("%v at %v", s.r.Kind, s.at)
				}
				if sec := s.at / time.Second; sec < 3600 {
					perSecond[sec]++
					total++
					most = max(most, perSecond[sec])
				}
			}
			mean := float64(total) / 3600
			t.Logf("%d refreshes in an hour: %.1f a second, %d in the worst (%.2f times the mean)", total, mean, most, float64(most)/mean)
			if float64(most) > 2*mean {
				t.Errorf("%d refreshes in one second, and %.1f in the mean", most, mean)
			}
			if n := l.wrong(); n != 0 {
				t.Errorf("%d users wrong", n)
			}
		})
	}
}

// TestTakenOverRefreshesAreSpread: what came due while the sidecar was away is not
// refreshed all at once.
func TestTakenOverRefreshesAreSpread(t *testing.T) {
	l := newLine(t, PublisherConfig{NoSentinel: true})
	var records []Record
	for i := range 1000 {
		records = append(records, Record{Publisher: "s", Presentity: Presentity(user(i)), Tag: "t", State: OnThePhone, Expires: 100 * time.Second})
	}
	l.e.TakeOver(records)
	if n := l.e.publishers[0].calendar.booked; n != 1000 {
		t.Errorf("%d refreshes booked", n)
	}
	l.answer = func(Request) (time.Duration, Outcome) { return 0, ok("t", 600*time.Second) }
	l.pass(60 * time.Second)
	perSecond := map[time.Duration]int{}
	for _, s := range l.sent {
		perSecond[s.at/time.Second]++
	}
	for sec, n := range perSecond {
		if n > 60 {
			t.Errorf("%d refreshes in second %d", n, sec)
		}
	}
	if len(l.sent) < 1000 {
		t.Errorf("%d refreshes", len(l.sent))
	}
}

// TestRate: no more requests than allowed, changes of state before refreshes, and a refresh
// before it is too late.
func TestRate(t *testing.T) {
	l := newLine(t, PublisherConfig{Expires: 100 * time.Second, Rate: 50, NoSentinel: true})
	for range 500 {
		l.call(time.Hour) // 1,000 users: 20 s
	}
	l.pass(21 * time.Second)
	if n := l.wrong(); n != 0 {
		t.Fatalf("%d users wrong after 21 s, %d requests", n, len(l.sent))
	}
	var perSecond [400]int
	for _, s := range l.sent {
		perSecond[s.at/time.Second]++
	}
	for sec, n := range perSecond {
		if n > 56 { // the rate and a burst
			t.Errorf("%d requests in second %d", n, sec)
		}
	}
	// Nearly as many changes as the rate allows, for minutes: refreshes wait, but no publication
	// lapses.
	l.load(3*time.Minute, 120*time.Millisecond, 500*time.Millisecond)
	lapsed := 0
	for i := range 1000 {
		if len(l.server.live(Presentity(user(i+2)), l.now)) == 0 {
			lapsed++
		}
	}
	if lapsed > 0 {
		t.Errorf("%d publications lapsed", lapsed)
	}
}

// TestChangesGoFirst: what changes overtakes the refreshes that wait for the rate.
func TestChangesGoFirst(t *testing.T) {
	l := newLine(t, PublisherConfig{Expires: 100 * time.Second, Rate: 10, NoSentinel: true})
	var records []Record
	for i := range 400 {
		records = append(records, Record{Publisher: "s", Presentity: Presentity(user(i + 1000)), Tag: "t", State: OnThePhone,
			Expires: 600 * time.Second, Refresh: time.Second})
	}
	l.e.TakeOver(records)
	l.answer = func(Request) (time.Duration, Outcome) { return 0, ok("t", 600*time.Second) }
	l.pass(5 * time.Second)
	n := len(l.sent)
	l.call(time.Hour)
	l.pass(time.Second)
	var kinds []Kind
	for _, s := range l.sent[n:] {
		kinds = append(kinds, s.r.Kind)
	}
	if len(kinds) < 3 || kinds[0] != Initial || kinds[1] != Initial || kinds[2] != Refresh {
		t.Errorf("sent %v", kinds)
	}
}

// TestCalendarForgets: what was booked is given back, however a publication ends.
func TestCalendarForgets(t *testing.T) {
	l := newLine(t, PublisherConfig{})
	l.load(2*time.Minute, 20*time.Millisecond, 10*time.Second)
	l.answer = func(Request) (time.Duration, Outcome) { return 0, gone }
	l.load(time.Minute, 20*time.Millisecond, 10*time.Second)
	l.answer = l.well
	l.load(30*time.Second, time.Hour, 0)
	l.pass(20 * time.Minute)
	cal := &l.e.publishers[0].calendar
	left := 0
	for _, n := range cal.due {
		left += int(n)
	}
	if live := l.e.Live(); left != cal.booked || left != live {
		t.Errorf("%d booked, %d in seconds, %d publications", cal.booked, left, live)
	}
}

// TestLastMoment: a refresh that waits behind changes goes before its publication lapses.
func TestLastMoment(t *testing.T) {
	l := newLine(t, PublisherConfig{Rate: 10, NoSentinel: true})
	who := Presentity(user(39_999))
	l.e.TakeOver([]Record{{Publisher: "s", Presentity: who, Tag: "t", State: OnThePhone, Expires: 100 * time.Second, Refresh: 20 * time.Second}})
	l.answer = func(Request) (time.Duration, Outcome) { return 0, ok("t", time.Hour) }
	l.load(100*time.Second, 190*time.Millisecond, time.Hour) // 10.5 changes a second: there are always some
	for _, s := range l.sent {
		if s.r.Presentity == who {
			if s.r.Kind != Refresh || s.at < 90*time.Second {
				t.Errorf("%v at %v", s.r.Kind, s.at)
			}
			return
		}
	}
	t.Error("not refreshed before it lapsed")
}

// TestLanesAreBounded: with the rate used up for an hour, the refreshes that had to become
// urgent leave nothing behind in their lane.
func TestLanesAreBounded(t *testing.T) {
	l := newLine(t, PublisherConfig{Expires: 60 * time.Second, Rate: 20, NoSentinel: true})
	for range 300 {
		l.call(24 * time.Hour)
	}
	l.pass(time.Minute)
	l.up, l.queue = nil, nil
	l.load(time.Hour, 150*time.Millisecond, 500*time.Millisecond)
	if n := l.e.Stats().Publishers[0].Waiting; n > 3000 {
		t.Errorf("%d places taken for %d people", n, l.e.Stats().People)
	}
}
