package plugintest

import (
	"strconv"
	"time"

	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

const (
	day    = 24 * time.Hour
	skew   = time.Minute // that a claim's times may be off
	settle = time.Second // that what was under way at an unwatch may take
)

// judgeClaim holds a claim to the contract. The caller holds mu.
func (s *session) judgeClaim(c *pluginv1.Claim) {
	p, now := c.GetPresentity(), time.Now()
	s.judgeName("claim", p, now)
	if a := c.GetAvailability(); pluginv1.Availability_name[int32(a)] == "" {
		s.faults.add("availability", "a claim's availability must be one of the contract's: %s has %d", short(p), a)
	}
	if k := c.GetForward().GetKind(); pluginv1.Forward_Kind_name[int32(k)] == "" {
		s.faults.add("forward", "a claim's forward kind must be one of the contract's: %s has %d", short(p), k)
	}
	s.judgeTimes(c, now)
	if n := c.GetSequence(); n != 0 {
		if last := s.sequences[p]; n < last {
			s.faults.add("sequence", "a claim's sequence must not go back: %s had %d, and then %d", short(p), last, n)
		}
		s.sequences[p] = max(n, s.sequences[p])
	}
}

func (s *session) judgeTimes(c *pluginv1.Claim, now time.Time) {
	p, since, until := short(c.GetPresentity()), c.GetSince(), c.GetUntil()
	switch {
	case since != nil && (since.CheckValid() != nil || since.AsTime().After(now.Add(skew))):
		s.faults.add("since", "a claim's since must not lie ahead: %s has %s", p, since.AsTime())
	case until == nil:
	case until.CheckValid() != nil || since != nil && until.AsTime().Before(since.AsTime()):
		s.faults.add("until", "a claim's until must not come before its since: %s has since %s, until %s", p, since.AsTime(), until.AsTime())
	case until.AsTime().After(now.Add(day + skew)):
		s.faults.add("day", "a claim's until must be within a day: %s has %s, in %s", p, until.AsTime(), until.AsTime().Sub(now).Round(time.Second))
	case until.AsTime().Before(now.Add(-skew)):
		s.faults.add("past", "a claim's until must not be past: %s has %s", p, until.AsTime())
	}
}

func (s *session) judgeSubscription(sub *pluginv1.Subscription) {
	p := sub.GetPresentity()
	s.judgeName("subscription", p, time.Now())
	if st := sub.GetState(); st == 0 || pluginv1.Subscription_State_name[int32(st)] == "" {
		s.faults.add("state", "a subscription must have a state of the contract's: %s has %d", short(p), st)
	}
	if d := sub.GetRetryAfter(); d != nil && (d.CheckValid() != nil || d.AsDuration() < 0) {
		s.faults.add("retry", "a subscription's retry_after must not be below 0: %s has %s", short(p), d.AsDuration())
	}
}

func (s *session) judgeConnector(c *pluginv1.Connector) {
	if st := c.GetState(); st == 0 || pluginv1.Connector_State_name[int32(st)] == "" {
		s.faults.add("connector", "a connector must have a state of the contract's, and has %d", st)
	}
}

// judgeName tells whether the source may speak of a presentity.
func (s *session) judgeName(what, p string, now time.Time) {
	left, unwatched := s.unwatched[p]
	switch {
	case p == "":
		s.faults.add("nobody", "a %s must name a presentity", what)
	case !s.served(p) && (what == "claim" || !s.watched[p]): // one that is asked for may be refused
		s.faults.add("unserved", "a %s must be of a presentity that serves matches: %s is none", what, short(p))
	case s.about.GetUnasked():
	case !s.watched[p]:
		s.faults.add("stranger", "a %s must be of a presentity that is watched: nobody has asked for %s", what, short(p))
	case unwatched && now.Sub(left) > settle:
		s.faults.add("left", "a %s must not come after an unwatch: %s was left %s ago", what, short(p), now.Sub(left).Round(time.Millisecond))
	}
}

func (s *session) served(presentity string) bool {
	for _, re := range s.serves {
		if re.MatchString(presentity) {
			return true
		}
	}
	return len(s.serves) == 0
}

// short quotes a name for a finding.
func short(p string) string {
	if len(p) > 100 {
		return strconv.Quote(p[:100]) + "..."
	}
	return strconv.Quote(p)
}
