package sipnet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

// authenticator answers digest challenges (RFC 3261 section 22, RFC 7616, RFC 8760) for all
// requests of a client. What it learns from a challenge goes on later requests unasked, so
// that a steady state costs one transaction each.
type authenticator struct {
	username, password string                  // username "": nothing is answered
	realms             func(realm string) bool // those that are answered; nil: all

	mu     sync.Mutex
	spaces []*space // the oldest first
}

// Limits of what is sent and kept because of challenges.
const (
	maxRounds     = 4   // transactions of one request
	maxSpaces     = 256 // of a client
	maxHostSpaces = 2   // of one domain and kind: each puts a header on every request there
	maxNonces     = 256 // of a space; about as many requests are under way at a time
)

// space is a protection space: one realm, of the server or of a proxy, as the requests for
// one domain meet it. (Realms are often the domain: what answers one is of no use there to
// another, and a header for each of many would not fit into a datagram.)
type space struct {
	proxy       bool
	host, realm string
	nonces      []*nonce // the one to use next is last
}

// nonce is a challenge that was met, and how often. Where there is a choice one request at
// a time uses it, since there are servers (Kamailio with nonce_count) that take only rising
// counts, and two requests under way can overtake each other.
type nonce struct {
	*digest.Challenge
	count  int  // requests that it was put on
	users  int  // of them under way
	proven bool // one of them was accepted
}

// credential is what one request answers one space with.
type credential struct {
	space *space
	nonce *nonce
	fresh bool   // the nonce comes from the last answer
	from  string // who gave that: the same one knows it, so that the password must be wrong
	tried bool   // such a nonce was refused once, and replaced
}

// do sends a request by send, and again with the next CSeq number and the same Call-ID and
// From tag when it is challenged (RFC 3261 section 22.2). A 401 or 407 that it returns says
// in its reason phrase why it is not answered. The headers and the CSeq number that the
// request was sent with last stay on it.
func (a *authenticator) do(ctx context.Context, req *Draft,
	send func(context.Context, *Draft) (*sip.Response, error)) (*sip.Response, error) {
	var held []credential
	defer func() { a.release(held) }()
	held = a.known(req)
	for round := 1; ; round++ {
		if err := a.sign(req, held); err != nil {
			return nil, err
		}
		res, err := send(ctx, req)
		if err != nil {
			return nil, err
		}
		if res.StatusCode != sip.StatusUnauthorized && res.StatusCode != sip.StatusProxyAuthRequired {
			a.accepted(res, held)
			return res, nil
		}
		wanted, why := challenges(res)
		if why == "" {
			held, why = a.answer(strings.ToLower(req.Domain), res.Source(), wanted, held)
		}
		if why == "" && round == maxRounds {
			why = fmt.Sprintf("challenged %d times in a row", round)
		}
		if why != "" {
			res.Reason += ": " + why
			return res, nil
		}
		req.Number++
	}
}

// known returns the credentials that a request is likely to need.
func (a *authenticator) known(req *Draft) (held []credential) {
	if a.username == "" {
		return nil
	}
	host := strings.ToLower(req.Domain)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.spaces {
		if s.host != host {
			continue
		}
		if n := s.next(); n != nil {
			n.users++
			held = append(held, credential{space: s, nonce: n})
		}
	}
	return held
}

// next returns a nonce that is idle, else one to share, else nil. What the answer to a
// challenge is made with is not shared before it was accepted: nobody must use it up first.
func (s *space) next() (n *nonce) {
	for i := len(s.nonces) - 1; i >= 0; i-- {
		if s.nonces[i].users == 0 {
			return s.nonces[i]
		}
		if n == nil && s.nonces[i].proven {
			n = s.nonces[i]
		}
	}
	return n
}

// answer returns the credentials for the next round, or why there can be none. What it is
// given is released or goes on, whichever. from is the address that challenges: behind it may
// be several servers that do not know each other's nonces, and none of them need say stale
// of another's. So a refusal that comes with another nonce is answered once more.
func (a *authenticator) answer(host, from string, wanted []challenge, held []credential) (_ []credential, why string) {
	if a.username == "" {
		return held, fmt.Sprintf("%s wants to know who we are in realm %q: set username and password",
			wanted[0].who(), cut(wanted[0].Realm))
	}
	for _, w := range wanted {
		if a.realms != nil && !a.realms(w.Realm) {
			return held, fmt.Sprintf("%s asks who we are in realm %q, which is none of the configured server's", w.who(), cut(w.Realm))
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range held {
		if !asked(wanted, held[i].space) { // they were accepted this time
			held[i].fresh, held[i].tried = false, false
		}
	}
	for _, w := range wanted {
		i := 0
		for i < len(held) && (held[i].space.proxy != w.proxy || held[i].space.realm != w.Realm) {
			i++
		}
		if i == len(held) {
			held = append(held, credential{space: a.space(w.proxy, host, w.Realm)})
		}
		c := &held[i]
		if c.fresh && c.from == from && !w.Stale {
			if c.tried || c.nonce.Nonce == w.Nonce {
				return held, fmt.Sprintf("%s refused user %q for realm %q: check username and password",
					w.who(), cut(a.username), cut(w.Realm))
			}
			c.tried = true
		}
		if c.nonce != nil {
			// Who shares it may have come too late alone: the last one says.
			if c.nonce.users--; c.nonce.users == 0 && c.nonce.Nonce != w.Nonce {
				c.space.drop(c.nonce)
			}
		}
		c.nonce, c.fresh, c.from = c.space.add(w.Challenge), true, from
		c.nonce.users++
	}
	return held, ""
}

// asked returns whether a space is among those that challenged.
func asked(wanted []challenge, s *space) bool {
	for _, w := range wanted {
		if w.proxy == s.proxy && w.Realm == s.realm {
			return true
		}
	}
	return false
}

// space returns a space, a new one instead of the oldest if need be; a.mu is held.
func (a *authenticator) space(proxy bool, host, realm string) *space {
	oldest, same := -1, 0
	for i, s := range a.spaces {
		if s.proxy == proxy && s.host == host {
			if s.realm == realm {
				return s
			}
			if same++; oldest < 0 {
				oldest = i
			}
		}
	}
	switch {
	case same >= maxHostSpaces:
		a.spaces = append(a.spaces[:oldest], a.spaces[oldest+1:]...)
	case len(a.spaces) >= maxSpaces:
		a.spaces = append(a.spaces[:0], a.spaces[1:]...)
	}
	s := &space{proxy: proxy, host: host, realm: realm}
	a.spaces = append(a.spaces, s)
	return s
}

// add returns the nonce of a challenge, the one that is known if it is: its count goes on.
func (s *space) add(c *digest.Challenge) *nonce {
	for _, n := range s.nonces {
		if n.Nonce == c.Nonce && n.Algorithm == c.Algorithm {
			return n
		}
	}
	if len(s.nonces) >= maxNonces {
		s.nonces = append(s.nonces[:0], s.nonces[1:]...)
	}
	n := &nonce{Challenge: c}
	s.nonces = append(s.nonces, n)
	return n
}

func (s *space) drop(n *nonce) {
	for i := range s.nonces {
		if s.nonces[i] == n {
			s.nonces = append(s.nonces[:i], s.nonces[i+1:]...)
			return
		}
	}
}

// release gives the nonces back. The last one back is the next to be used: of those that
// only a burst needed most will be stale by the next one.
func (a *authenticator) release(held []credential) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range held {
		c.nonce.users--
		if n := len(c.space.nonces); n > 1 && c.space.nonces[n-1] != c.nonce {
			c.space.raise(c.nonce)
		}
	}
}

// raise makes a nonce that is still known the next one.
func (s *space) raise(n *nonce) {
	before := len(s.nonces)
	if s.drop(n); len(s.nonces) < before {
		s.nonces = append(s.nonces, n)
	}
}

// accepted notes that credentials were good, and takes the nonce that the server wants to
// see next (RFC 7616 section 3.5). That does not say for which realm: there must be no
// question.
func (a *authenticator) accepted(res *sip.Response, held []credential) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, c := range held {
		c.nonce.proven = true
		next := nextNonce(res, c.space.proxy)
		if next == "" || next == c.nonce.Nonce || slices.ContainsFunc(held[:i], c.sameKind) || slices.ContainsFunc(held[i+1:], c.sameKind) {
			continue
		}
		again := *c.nonce.Challenge
		again.Nonce = next
		c.space.drop(c.nonce)
		c.space.add(&again)
	}
}

func (c credential) sameKind(other credential) bool { return c.space.proxy == other.space.proxy }

// sign puts the credentials on a request, instead of those that it has.
func (a *authenticator) sign(req *Draft, held []credential) error {
	req.credentials = req.credentials[:0]
	for _, c := range held {
		a.mu.Lock()
		c.nonce.count++
		count := c.nonce.count
		a.mu.Unlock()
		// The user's name goes as it is: userhash is an offer (RFC 7616 section 3.4.4), and
		// SIP servers look the name up.
		chal := *c.nonce.Challenge
		chal.Userhash = false
		cred, err := digest.Digest(&chal, digest.Options{Method: string(req.Method), URI: req.URI,
			Count: count, Username: a.username, Password: a.password})
		if err != nil {
			return fmt.Errorf("answer to the challenge of realm %q: %w", cut(c.space.realm), err)
		}
		req.credentials = append(req.credentials, answerHeader(c.space.proxy)+": "+cred.String()+"\r\n")
	}
	return nil
}
