package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp/plugin"
)

// notification is a NOTIFY, read.
type notification struct {
	callID, toTag, fromTag string
	cseq                   uint32
	pkg                    *eventPackage
	contact                string
	routes                 []string
	state                  string // of Subscription-State, in lower case
	reason                 string
	expires                time.Duration // -1: not said
	retryAfter             time.Duration // 0: not said
	mime                   string        // of the body; "" if there is none
	document               document      // that the body is
	bad                    error         // the body cannot be read
}

// reply is what a NOTIFY is answered.
type reply struct {
	code   int
	reason string
	accept string // the header Accept, for 415
}

var (
	replyOK       = reply{code: 200, reason: "OK"}
	replyNoDialog = reply{code: 481, reason: "Subscription does not exist"}
	replyBadEvent = reply{code: 489, reason: "Bad Event"}
	replyOld      = reply{code: 500, reason: "CSeq is lower than that of an earlier request"}
	replyNoState  = reply{code: 400, reason: "Subscription-State is missing or malformed"}
)

// readNotify takes a NOTIFY apart. A reply with a code says that nobody needs to see it.
func readNotify(req *sip.Request) (*notification, reply) {
	name, params := header(req, "Event", "o")
	pkg := packageOf(name)
	if pkg == nil {
		return nil, replyBadEvent
	}
	if _, ok := params["id"]; ok { // none of ours has one (RFC 6665 section 4.5.2)
		return nil, replyNoDialog
	}
	n := &notification{pkg: pkg, callID: req.CallID().Value(), cseq: req.CSeq().SeqNo, expires: -1,
		contact: contactOf(req.Contact()), routes: routeSet(req.GetHeaders("Record-Route"), false)}
	n.toTag, _ = req.To().Params.Get("tag")
	n.fromTag, _ = req.From().Params.Get("tag")
	if n.toTag == "" || n.fromTag == "" {
		return nil, replyNoDialog
	}
	n.state, params = header(req, "Subscription-State", "")
	n.reason = strings.ToLower(params["reason"])
	if d, ok := seconds(params["expires"]); ok {
		n.expires = d
	}
	n.retryAfter, _ = seconds(params["retry-after"])
	if n.state == "" {
		return nil, replyNoState
	}
	if body := req.Body(); len(body) > 0 {
		n.mime = "application/octet-stream"
		if h := req.ContentType(); h != nil {
			n.mime = h.Value()
		}
		n.document, n.bad = readDocument(n.mime, body)
	}
	return n, reply{}
}

// header returns the first word of a header, in lower case, and its parameters. short is its
// compact form (RFC 3261 section 7.3.3).
func header(req *sip.Request, name, short string) (word string, params map[string]string) {
	h := req.GetHeader(name)
	if h == nil && short != "" {
		h = req.GetHeader(short)
	}
	if h == nil {
		return "", nil
	}
	word, rest, _ := strings.Cut(h.Value(), ";")
	params = map[string]string{}
	for part := range strings.SplitSeq(rest, ";") {
		k, v, _ := strings.Cut(part, "=")
		params[strings.ToLower(strings.TrimSpace(k))] = strings.Trim(strings.TrimSpace(v), `"`)
	}
	return strings.ToLower(strings.TrimSpace(word)), params
}

// seconds reads a number of them, a day at most.
func seconds(s string) (time.Duration, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 63)
	if s == "" || err != nil {
		return 0, false
	}
	return time.Duration(min(n, uint64(maxExpires/time.Second))) * time.Second, true
}

// notified takes a NOTIFY that is for this subscription's dialog by its Call-ID and our tag,
// and says what it is answered. One that comes again is answered as before, and changes
// nothing (RFC 3261 section 17.2.2 has a transaction for that; our state is the CSeq number).
func (s *sub) notified(now time.Time, n *notification) (reply, step) {
	d := &s.dialog
	switch {
	case s.phase == idle || s.phase == kept:
		if d.heard && n.fromTag == d.remote && n.cseq == d.theirs {
			return d.said, step{}
		}
		return replyNoDialog, step{}
	case n.pkg != s.pkg:
		return replyBadEvent, step{}
	case d.heard && n.fromTag != d.remote:
		return replyNoDialog, step{} // another fork: see RFC 3856 section 6.9
	case d.heard && n.cseq == d.theirs:
		return d.said, step{}
	case d.heard && n.cseq < d.theirs:
		return replyOld, step{} // RFC 3261 section 12.2.2
	}
	d.meet(n)
	d.heard, d.theirs = true, n.cseq
	if n.contact != "" {
		d.target = n.contact
	}
	d.said = s.judge(n)
	return d.said, s.follow(now, n)
}

// judge returns what a NOTIFY in sequence is answered.
func (s *sub) judge(n *notification) reply {
	switch {
	case n.mime == "" || n.state == "terminated" && n.bad != nil:
		return replyOK
	case n.document.kind == unsupported || !s.accepts(n.document.kind):
		return reply{code: 415, reason: "Unsupported Media Type", accept: s.pkg.acceptable(s.list)}
	case n.bad != nil:
		return reply{code: 400, reason: "The body cannot be read"}
	}
	return replyOK
}

// accepts returns whether a body of a kind says anything here.
func (s *sub) accepts(k kind) bool { return k == s.pkg.kind || k == ofList && s.list }

// follow takes the state that a NOTIFY is about.
func (s *sub) follow(now time.Time, n *notification) step {
	if s.phase != ending {
		s.notifyBy = time.Time{}
	}
	if n.state == "terminated" {
		return s.terminated(now, n)
	}
	st := step{voice: true}
	if s.phase == opening {
		if s.leaving {
			s.phase = ending
			return s.sending(step{})
		}
		s.phase = active
		st.told = verdict{state: plugin.Active}
		if n.expires < 0 && s.refresh.IsZero() {
			s.grant(now, 0)
		}
	}
	if s.phase != active {
		return step{}
	}
	st.apply = n.mime != "" && s.dialog.said.code == 200
	s.empty(now, n, &st)
	if n.state == "pending" { // RFC 6665 section 4.1.3: there is no state to be seen yet
		st.told = verdict{state: plugin.Active, reason: "pending: the presentity has not allowed it yet"}
	} else if st.told.state == 0 {
		st.told = verdict{state: plugin.Active}
	}
	if n.expires >= 0 {
		s.noted = true
		s.until(now, n.expires)
	}
	return st
}

// empty takes a NOTIFY for what it does not carry. Kamailio sends a body only as long as there
// is a publication: an active subscription's NOTIFY without one says that nothing is known any
// more, of calls neither, for a PBX that has restarted in the middle of one sends the same.
func (s *sub) empty(now time.Time, n *notification, st *step) {
	if s.group != nil && !s.group.settled && s.listBy.IsZero() {
		s.listBy = now.Add(s.timeN)
	}
	switch {
	case st.apply:
		st.voice = !s.list // of a list's members, those go on that it names
	case n.state != "active":
	case s.list:
		s.bare = true
	case n.mime == "":
		s.hearing = hearing{voice: voice{until: s.voice.until}}
	}
}

// until takes when a subscription ends, from a NOTIFY. Those that are no answer to a SUBSCRIBE
// say it, too: the time of the refresh changes only where it would be too late.
func (s *sub) until(now time.Time, left time.Duration) {
	expiry := now.Add(left)
	shorter := s.expiry.Sub(expiry) > 2*time.Second
	if s.refresh.IsZero() || shorter {
		s.grant(now, max(left, time.Second))
		return
	}
	s.expiry, s.voice.until = expiry, expiry
}

// terminated is the end that the notifier has set, by its reason (RFC 6665 section 4.1.3).
func (s *sub) terminated(now time.Time, n *notification) step {
	if s.phase == ending {
		return step{over: true}
	}
	was := s.phase
	why := verdict{state: plugin.Terminated, reason: "terminated by the notifier", retry: n.retryAfter}
	if n.reason != "" {
		why.reason += ": " + cut(n.reason)
	}
	switch n.reason {
	case "probation", "giveup":
		if n.retryAfter == 0 {
			why.retry = defaultRetry
		}
	case "rejected":
		why.state = plugin.AccessDenied
	case "noresource":
		why.state = plugin.NotFound
	case "invariant":
		if n.expires > 0 || !s.expiry.After(now) {
			s.grant(now, max(n.expires, 0))
		}
		s.phase, s.refresh = kept, time.Time{}
		return step{told: verdict{state: plugin.Active, reason: "it will not change (invariant)"},
			apply: n.mime != "" && s.dialog.said.code == 200, voice: true}
	}
	if was != active && why.state == plugin.Terminated {
		why.state = plugin.Failed // it never was active
	}
	return s.fail(now, why)
}
