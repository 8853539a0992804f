package main

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// dialog is what a subscription's requests go by (RFC 3261 section 12, RFC 6665 section 4.4.1).
type dialog struct {
	callID string
	tag    string   // ours
	remote string   // the notifier's tag; "" while nobody has answered
	target string   // the notifier's Contact; "" if it named none
	routes []string // the route set

	cseq   uint32 // of our last request
	theirs uint32 // of the notifier's last one
	heard  bool   // there was one
	said   reply  // what it was answered
	lost   bool   // it is to be replaced when its time has come

	local netip.AddrPort // what our Contact names
}

func newDialog() dialog {
	return dialog{callID: sip.GenerateTagN(24), tag: sip.GenerateTagN(16)}
}

// confirm takes a 2xx. What a NOTIFY has said before of who is at the other end, stands: it
// is the NOTIFY that makes the dialog (RFC 6665 section 4.4.1), and of several forks the first.
func (d *dialog) confirm(a answer) {
	switch {
	case d.remote == "":
		d.remote, d.routes = a.tag, a.routes
		d.target = a.contact
	case d.remote == a.tag && a.contact != "":
		d.target = a.contact // a target refresh
	}
}

// meet takes the first NOTIFY. Its Record-Routes are the route set in their order, for we are
// its UAS (RFC 3261 section 12.1.1).
func (d *dialog) meet(n *notification) {
	if d.remote != n.fromTag {
		d.remote, d.target = n.fromTag, ""
		d.routes = n.routes
	}
	if d.routes == nil {
		d.routes = n.routes
	}
}

// routeSet returns the Record-Routes of a message, nil for none; at most maxRoutes.
func routeSet(headers []sip.Header, reversed bool) []string {
	var routes []string
	for _, h := range headers[:min(len(headers), maxRoutes)] {
		routes = append(routes, h.Value())
	}
	if reversed {
		slices.Reverse(routes)
	}
	return routes
}

const maxRoutes = 16

// contactOf returns the URI of a message's Contact, "" if there is none to send to.
func contactOf(c *sip.ContactHeader) string {
	if c == nil || c.Address.Wildcard || c.Address.Host == "" || !strings.HasPrefix(c.Address.Scheme, "sip") {
		return ""
	}
	uri := c.Address.Clone()
	uri.Headers = nil
	return uri.String()
}
