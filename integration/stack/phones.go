package stack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Phones are any number of SIP phones behind one UDP socket: they register, call, ring,
// answer and hang up. They know the truth: who is in how many calls.
type Phones struct {
	agent
	domain string
	tag    string // of all our From and To headers

	book  sync.Mutex
	calls map[string]*Call  // placed, by Call-ID
	legs  map[string]*leg   // taken, by Call-ID
	tags  map[string]string // of what they published (SIP-ETag), by user
	ring  time.Duration
	next  atomic.Int64
	tail  string // of our Call-IDs
}

// Call is a call that was placed and answered.
type Call struct {
	From, To string    // users
	Placed   time.Time // when the INVITE left
	Answered time.Time // when the 200 OK reached the caller
	Ended    time.Time // when the BYE left, zero before

	phones *Phones
	dialog request // what its requests have in common
	ack    string
}

// Phones returns phones that use a proxy and belong to a domain.
func (s *Stack) Phones(proxy, domain string) (*Phones, error) {
	p := &Phones{domain: domain, tag: rand.Text(), tail: rand.Text(), calls: make(map[string]*Call), legs: make(map[string]*leg),
		tags: make(map[string]string)}
	if err := p.open(proxy, p.request, p.stray); err != nil {
		return nil, err
	}
	s.onClose(p.socket.close)
	return p, nil
}

// SetRing says how long a phone rings before it answers; 0, and it answers at once.
func (p *Phones) SetRing(d time.Duration) {
	p.book.Lock()
	defer p.book.Unlock()
	p.ring = d
}

// LongCallIDs makes Call-IDs of some 150 bytes, which makes large events. Call it before
// the first call.
func (p *Phones) LongCallIDs() { p.tail = strings.Repeat(p.tail, 6) }

func (p *Phones) aor(user string) string { return "sip:" + user + "@" + p.domain }

func (p *Phones) contact(user string) string {
	return "<sip:" + user + "@" + p.socket.addr.String() + ">"
}

func (p *Phones) callID() string { return fmt.Sprintf("%d-%s", p.next.Add(1), p.tail) }

// registering is how many REGISTERs are under way at a time.
const registering = 64

// Register registers users at the proxy, for an hour.
func (p *Phones) Register(ctx context.Context, users ...string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan string)
	var workers sync.WaitGroup
	for range min(registering, len(users)) {
		workers.Go(func() {
			for user := range work {
				if err := p.register(ctx, user); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, user := range users {
		select {
		case work <- user:
		case <-ctx.Done():
		}
	}
	close(work)
	workers.Wait()
	return context.Cause(ctx)
}

func (p *Phones) register(ctx context.Context, user string) error {
	m, err := p.do(ctx, request{method: "REGISTER", uri: "sip:" + p.domain, branch: newBranch(),
		from: "<" + p.aor(user) + ">;tag=" + p.tag, to: "<" + p.aor(user) + ">", callID: p.callID(), cseq: 1,
		extra: "Contact: " + p.contact(user) + "\r\nExpires: 3600\r\n"})
	if err == nil && m.status() != 200 {
		err = errors.New(m.start)
	}
	if err != nil {
		return fmt.Errorf("registering %s: %w", user, err)
	}
	return nil
}

// Call calls somebody and returns when they have answered.
func (p *Phones) Call(ctx context.Context, from, to string) (*Call, error) {
	invite := request{method: "INVITE", uri: p.aor(to), branch: newBranch(), cseq: 1, callID: p.callID(),
		from: "<" + p.aor(from) + ">;tag=" + p.tag, to: "<" + p.aor(to) + ">",
		extra: "Contact: " + p.contact(from) + "\r\n"}
	placed := time.Now()
	m, err := p.do(ctx, invite)
	if err != nil {
		return nil, fmt.Errorf("%s calls %s: %w", from, to, err)
	}
	ack := invite
	ack.method, ack.to, ack.extra, ack.via = "ACK", m.get("to"), "", p.socket.addr.String()
	if m.status() >= 300 {
		p.socket.send(p.server, ack.String())
		return nil, fmt.Errorf("%s calls %s: %s", from, to, m.start)
	}
	// The route set is the Record-Route set, from bottom to top (RFC 3261 section 12.1.2).
	ack.routes = m.all("record-route")
	slices.Reverse(ack.routes)
	ack.uri, ack.branch = address(m.get("contact")), newBranch()
	c := &Call{From: from, To: to, Placed: placed, Answered: m.at, phones: p, dialog: ack, ack: ack.String()}
	p.book.Lock()
	p.calls[ack.callID] = c
	p.book.Unlock()
	p.socket.send(p.server, c.ack)
	return c, nil
}

// Hangup ends the call, by its caller, and returns when that is confirmed.
func (c *Call) Hangup(ctx context.Context) error {
	p := c.phones
	bye := c.dialog
	bye.method, bye.branch, bye.cseq = "BYE", newBranch(), 2
	p.book.Lock()
	delete(p.calls, bye.callID)
	c.Ended = time.Now()
	p.book.Unlock()
	m, err := p.do(ctx, bye)
	if err == nil && m.status() != 200 {
		err = errors.New(m.start)
	}
	if err != nil {
		return fmt.Errorf("%s hangs up on %s: %w", c.From, c.To, err)
	}
	return nil
}

// stray takes a response that nobody waits for: the 200 OK of an INVITE whose ACK was lost.
func (p *Phones) stray(m *message) {
	if m.method() != "INVITE" || m.status() != 200 {
		return
	}
	p.book.Lock()
	c := p.calls[m.get("call-id")]
	p.book.Unlock()
	if c != nil {
		p.socket.send(p.server, c.ack)
	}
}

// InCalls returns how many calls each user is in; users in none are left out.
func (p *Phones) InCalls() map[string]int {
	p.book.Lock()
	defer p.book.Unlock()
	n := make(map[string]int, 2*len(p.calls))
	for _, c := range p.calls {
		n[c.From]++
		n[c.To]++
	}
	return n
}

// Up returns the calls that are up.
func (p *Phones) Up() []*Call {
	p.book.Lock()
	defer p.book.Unlock()
	up := make([]*Call, 0, len(p.calls))
	for _, c := range p.calls {
		up = append(up, c)
	}
	return up
}

// Forget drops all calls without a word, as a power cut does.
func (p *Phones) Forget() {
	p.book.Lock()
	defer p.book.Unlock()
	clear(p.calls)
	for _, l := range p.legs {
		l.stop()
	}
	clear(p.legs)
}

// request answers what the proxy sends to our phones.
func (p *Phones) request(m *message, from netip.AddrPort) {
	id := m.get("call-id")
	switch m.method() {
	case "INVITE":
		p.invited(m, from)
	case "ACK":
		p.book.Lock()
		if l := p.legs[id]; l != nil {
			l.stop()
		}
		p.book.Unlock()
	case "BYE":
		p.book.Lock()
		if l := p.legs[id]; l != nil {
			l.stop()
			delete(p.legs, id)
		}
		p.book.Unlock()
		p.socket.send(from, m.response("200 OK", p.tag, "", ""))
	case "CANCEL":
		p.socket.send(from, m.response("200 OK", p.tag, "", ""))
		p.cancelled(id)
	case "OPTIONS":
		p.socket.send(from, m.response(p.alive(id), p.tag, "", ""))
	default:
		p.socket.send(from, m.response("501 Not Implemented", p.tag, "", ""))
	}
}

// alive answers a proxy that asks whether a call is still there.
func (p *Phones) alive(id string) string {
	p.book.Lock()
	defer p.book.Unlock()
	if p.calls[id] == nil && p.legs[id] == nil {
		return "481 Call/Transaction Does Not Exist"
	}
	return "200 OK"
}

// leg is a call that one of our phones has taken.
type leg struct {
	invite *message
	from   netip.AddrPort
	last   string // the last response to the INVITE
	timer  *time.Timer
	ended  bool
}

func (l *leg) stop() {
	l.ended = true
	l.timer.Stop()
}

// invited rings, or repeats what was said before.
func (p *Phones) invited(m *message, from netip.AddrPort) {
	p.book.Lock()
	defer p.book.Unlock()
	id := m.get("call-id")
	if l := p.legs[id]; l != nil {
		p.socket.send(from, l.last)
		return
	}
	l := &leg{invite: m, from: from}
	p.legs[id] = l
	if p.ring > 0 {
		l.last = m.response("180 Ringing", p.tag, "", "")
		p.socket.send(from, l.last)
	}
	l.timer = time.AfterFunc(p.ring, func() { p.answer(l, t1) })
}

// answer sends the 200 OK, again and again until the ACK comes (RFC 3261 section 13.3.1.4).
func (p *Phones) answer(l *leg, again time.Duration) {
	p.book.Lock()
	defer p.book.Unlock()
	if l.ended || again > timerF {
		return
	}
	to := userOf(l.invite.uri())
	l.last = l.invite.response("200 OK", p.tag, "Contact: "+p.contact(to)+"\r\n", "")
	p.socket.send(l.from, l.last)
	l.timer = time.AfterFunc(again, func() { p.answer(l, 2*again) })
}

// cancelled ends a call that rings.
func (p *Phones) cancelled(id string) {
	p.book.Lock()
	defer p.book.Unlock()
	l := p.legs[id]
	if l == nil || strings.HasPrefix(l.last, "SIP/2.0 200") {
		return
	}
	l.stop()
	l.last = l.invite.response("487 Request Terminated", p.tag, "", "")
	p.socket.send(l.from, l.last)
}
