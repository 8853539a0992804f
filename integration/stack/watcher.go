package stack

import (
	"context"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Sighting is what a NOTIFY told a watcher.
type Sighting struct {
	At         time.Time
	User       string
	OnThePhone bool
	Document   string // the PIDF document, "" for none; or that of another package
	Event      string // the package
	Type       string // the document's
}

// Package is what can be subscribed to.
type Package struct {
	Event  string
	Accept string
	List   bool // the watcher takes lists (RFC 4662)
}

// The packages that a [Watcher] knows.
var (
	Presence = Package{Event: "presence", Accept: "application/pidf+xml"}
	Dialog   = Package{Event: "dialog", Accept: "application/dialog-info+xml"}
	// Members is the presence of those on a list.
	Members = Package{Event: "presence", Accept: "application/pidf+xml, application/rlmi+xml, multipart/related", List: true}
)

// Watcher subscribes to presence (RFC 3856) like a phone with lamps, and keeps its
// subscriptions alive.
type Watcher struct {
	agent
	domain string
	seen   chan Sighting
	cancel context.CancelFunc
	ctx    context.Context
	alive  sync.WaitGroup

	book sync.Mutex
	last map[string]bool
	errs []error
}

// maxSeen bounds the sightings that nobody has taken yet; more are dropped.
const maxSeen = 4096

// Watcher returns a watcher of users of a domain at a presence server.
func (s *Stack) Watcher(server, domain string) (*Watcher, error) {
	w := &Watcher{domain: domain, seen: make(chan Sighting, maxSeen), last: make(map[string]bool)}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	if err := w.open(server, w.request, nil); err != nil {
		return nil, err
	}
	s.onClose(func() error {
		w.cancel()
		w.alive.Wait()
		return w.socket.close()
	})
	return w, nil
}

// Seen returns what is seen, one sighting for each NOTIFY.
func (w *Watcher) Seen() <-chan Sighting { return w.seen }

// Err returns why a subscription ended, nil if none did.
func (w *Watcher) Err() error {
	w.book.Lock()
	defer w.book.Unlock()
	return errors.Join(w.errs...)
}

// subscription is the dialog of a SUBSCRIBE.
type subscription struct {
	Package
	user, callID, from, to, target string
	routes                         []string
	cseq                           int
}

// Watch subscribes to the presence of users and returns when the server has accepted.
func (w *Watcher) Watch(ctx context.Context, users ...string) error {
	return w.WatchBy(ctx, Presence, users...)
}

// WatchBy does so by a package of choice. The user of [Members] is the list's.
func (w *Watcher) WatchBy(ctx context.Context, by Package, users ...string) error {
	for _, user := range users {
		sub := &subscription{Package: by, user: user, callID: rand.Text(), from: "<sip:watcher@" + w.domain + ">;tag=" + rand.Text(),
			to: "<sip:" + user + "@" + w.domain + ">", target: "sip:" + user + "@" + w.domain}
		life, err := w.subscribe(ctx, sub)
		if err != nil {
			return err
		}
		w.alive.Go(func() { w.keep(sub, life) })
	}
	return nil
}

// subscribe sends a SUBSCRIBE and returns how long the subscription lives.
func (w *Watcher) subscribe(ctx context.Context, sub *subscription) (time.Duration, error) {
	sub.cseq++
	extra := "Event: " + sub.Event + "\r\nAccept: " + sub.Accept + "\r\nExpires: 3600\r\nContact: <sip:watcher@" +
		w.socket.addr.String() + ">\r\n"
	if sub.List {
		extra += "Supported: eventlist\r\n"
	}
	m, err := w.do(ctx, request{method: "SUBSCRIBE", uri: sub.target, branch: newBranch(), from: sub.from, to: sub.to,
		callID: sub.callID, cseq: sub.cseq, routes: sub.routes, extra: extra})
	if err != nil {
		return 0, fmt.Errorf("watching %s: %w", sub.user, err)
	}
	if m.status() >= 300 {
		return 0, fmt.Errorf("watching %s: %s", sub.user, m.start)
	}
	if sub.cseq == 1 {
		sub.to = m.get("to")
		sub.routes = m.all("record-route")
		slices.Reverse(sub.routes)
		if contact := address(m.get("contact")); contact != "" {
			sub.target = contact
		}
	}
	return time.Duration(max(m.number("expires"), 1)) * time.Second, nil
}

// keep renews a subscription until the watcher ends.
func (w *Watcher) keep(sub *subscription, life time.Duration) {
	for sleep(w.ctx, life/2) {
		var err error
		if life, err = w.subscribe(w.ctx, sub); err != nil {
			w.fail(err)
			return
		}
	}
}

func (w *Watcher) fail(err error) {
	w.book.Lock()
	defer w.book.Unlock()
	if w.ctx.Err() == nil {
		w.errs = append(w.errs, err)
	}
}

// request takes a NOTIFY.
func (w *Watcher) request(m *message, from netip.AddrPort) {
	if m.method() != "NOTIFY" {
		w.socket.send(from, m.response("405 Method Not Allowed", "watcher", "", ""))
		return
	}
	w.socket.send(from, m.response("200 OK", "watcher", "", ""))
	if strings.HasPrefix(m.get("subscription-state"), "terminated") {
		w.fail(fmt.Errorf("watching %s: the server ended it: %s", userOf(address(m.get("from"))), m.get("subscription-state")))
	}
	s := Sighting{At: m.at, User: userOf(address(m.get("from"))), OnThePhone: onThePhone(m.body), Document: m.body,
		Event: m.get("event"), Type: m.get("content-type")}
	w.book.Lock()
	w.last[s.User] = s.OnThePhone
	w.book.Unlock()
	select {
	case w.seen <- s:
	default:
	}
}

// State returns what was seen last of a user.
func (w *Watcher) State(user string) (onThePhone, known bool) {
	w.book.Lock()
	defer w.book.Unlock()
	onThePhone, known = w.last[user]
	return onThePhone, known
}

// onThePhone reports whether a PIDF document has the activity.
func onThePhone(document string) bool { return countOnThePhone(document) > 0 }

// countOnThePhone returns how often a PIDF document has the activity, once for each
// publication that it is made of, either as RFC 4480 writes it (an element) or as its drafts
// did (an element's text). It stops where the document is broken.
func countOnThePhone(document string) (n int) {
	if !strings.Contains(document, "on-the-phone") {
		return 0
	}
	d := xml.NewDecoder(strings.NewReader(document))
	inside := 0
	for {
		token, err := d.Token()
		if err != nil {
			return n
		}
		switch t := token.(type) {
		case xml.StartElement:
			if t.Name.Local == "on-the-phone" && inside > 0 {
				n++
			}
			if t.Name.Local == "activities" || inside > 0 {
				inside++
			}
		case xml.EndElement:
			inside = max(inside-1, 0)
		case xml.CharData:
			if inside > 0 && strings.TrimSpace(string(t)) == "on-the-phone" {
				n++
			}
		}
	}
}
