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

	confirmed bool // there was a 2xx

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
// The first 2xx knows the route set better than a NOTIFY that has overtaken it: proxies put
// Record-Route on what begins a dialog, and a NOTIFY looks like a request within one.
func (d *dialog) confirm(a answer) {
	if d.remote == "" {
		d.remote, d.target = a.tag, a.contact
	}
	if d.remote != a.tag {
		return
	}
	overtaken := d.heard && !d.confirmed && d.target != "" // what the NOTIFY named is newer
	if a.contact != "" && !overtaken {
		d.target = a.contact // a target refresh
	}
	if !d.confirmed && (!d.heard || len(a.routes) > 0) {
		d.routes = a.routes
	}
	d.confirmed = true
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
