package main

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

// outgoing is a SUBSCRIBE to be sent: a copy of what its subscription knows.
type outgoing struct {
	dialog
	pkg     *eventPackage
	uri     string
	list    bool
	expires time.Duration // 0 ends the subscription
	account int
}

// request builds a SUBSCRIBE (RFC 6665 section 4.1.2): out of a dialog, to the presentity
// (route is an outbound proxy's way on, nil for none), or within one to the notifier.
func (a *account) request(o outgoing, userAgent string, route *sip.RouteHeader) (*sip.Request, error) {
	var to, target sip.Uri
	if err := sip.ParseUri(o.uri, &to); err != nil {
		return nil, fmt.Errorf("presentity %q: %w", o.uri, err)
	}
	target = to
	if o.remote != "" && o.target != "" {
		target = sip.Uri{}
		if err := sip.ParseUri(o.target, &target); err != nil {
			return nil, fmt.Errorf("contact %q of the notifier: %w", cut(o.target), err)
		}
	}
	req := sip.NewRequest(sip.SUBSCRIBE, target)
	if o.remote == "" && route != nil {
		req.AppendHeader(route)
	}
	if o.remote != "" {
		for _, r := range o.routes {
			req.AppendHeader(sip.NewHeader("Route", r))
		}
	}
	a.head(req, to, o.dialog)
	req.AppendHeader(sip.NewHeader("Event", o.pkg.name))
	req.AppendHeader(sip.NewHeader("Accept", o.pkg.acceptable(o.list)))
	if o.list {
		req.AppendHeader(sip.NewHeader("Supported", "eventlist")) // RFC 4662 section 4.1
	}
	req.AppendHeader(sip.NewHeader("Allow", "NOTIFY, OPTIONS"))
	req.AppendHeader(sip.NewHeader("Expires", strconv.Itoa(int((o.expires+time.Second-1)/time.Second))))
	if userAgent != "" {
		req.AppendHeader(sip.NewHeader("User-Agent", userAgent))
	}
	req.SetBody(nil)
	return req, nil
}

// head writes what every request of an account has. Of Contact, sipnet knows the host.
func (a *account) head(req *sip.Request, to sip.Uri, d dialog) {
	from := &sip.FromHeader{Address: a.uri}
	from.Params.Add("tag", d.tag)
	toHeader := &sip.ToHeader{Address: to}
	if d.remote != "" {
		toHeader.Params.Add("tag", d.remote)
	}
	callID := sip.CallIDHeader(d.callID)
	maxForwards := sip.MaxForwardsHeader(70)
	req.AppendHeader(from)
	req.AppendHeader(toHeader)
	req.AppendHeader(&callID)
	req.AppendHeader(&sip.CSeqHeader{SeqNo: d.cseq, MethodName: req.Method})
	req.AppendHeader(&sip.ContactHeader{Address: sip.Uri{Scheme: "sip", User: a.uri.User}})
	req.AppendHeader(&maxForwards)
}

// options asks somebody for a word: the server, or our own address for whether it is known.
func (a *account) options(of sip.Uri) *sip.Request {
	req := sip.NewRequest(sip.OPTIONS, of)
	d := newDialog()
	d.cseq = 1
	a.head(req, of, d)
	req.SetBody(nil)
	return req
}

// serverURI is the server itself. That need not be the domain of our own address, which may be
// one that it does not serve.
func (a *account) serverURI() sip.Uri {
	uri := a.serverRoute().Address
	uri.UriParams = nil
	return uri
}

// fetch asks what a SUBSCRIBE of our account's is answered by one to our own address that ends
// at once (RFC 6665 section 4.4.3).
func (a *account) fetch(route *sip.RouteHeader) *sip.Request {
	req := sip.NewRequest(sip.SUBSCRIBE, a.uri)
	if route != nil {
		req.AppendHeader(route)
	}
	d := newDialog()
	d.cseq = 1
	a.head(req, a.uri, d)
	req.AppendHeader(sip.NewHeader("Event", presence.name))
	req.AppendHeader(sip.NewHeader("Accept", presence.acceptable(false)))
	req.AppendHeader(sip.NewHeader("Expires", "0"))
	req.SetBody(nil)
	return req
}

// uriOf returns the Request-URI of a presentity: a telephone number is a user of the account's
// domain (RFC 3261 section 19.1.6).
func (a *account) uriOf(presentity string) (string, error) {
	if number, ok := strings.CutPrefix(presentity, "tel:"); ok {
		number, _, _ = strings.Cut(number, ";")
		if number == "" || strings.Trim(number, "+0123456789") != "" {
			return "", fmt.Errorf("%q: want tel:+number", presentity)
		}
		return "sip:" + number + "@" + a.domain + ";user=phone", nil
	}
	var uri sip.Uri
	err := sip.ParseUri(presentity, &uri)
	if err != nil || uri.Scheme != "sip" && uri.Scheme != "sips" || uri.User == "" || uri.Host == "" ||
		strings.ContainsFunc(presentity, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>"`, r) }) {
		return "", fmt.Errorf("%q: want sip:USER@HOST", presentity)
	}
	return presentity, nil
}

// canonical returns the presentity that a URI in a list is of: without parameters, the host
// in lower case, and a global number as a tel: URI where that is how we would ask for one, or
// where it says of itself that it is one (RFC 3261 section 19.1.1, user=phone).
func (a *account) canonical(uri string) string {
	scheme, rest, _ := strings.Cut(uri, ":")
	scheme = strings.ToLower(scheme)
	rest, _, _ = strings.Cut(rest, "?")
	rest, params, _ := strings.Cut(rest, ";")
	user, host, ok := strings.Cut(rest, "@")
	if !ok {
		if n, ok := globalNumber(rest); ok && scheme == "tel" {
			rest = n
		}
		return scheme + ":" + rest
	}
	user, _, _ = strings.Cut(user, ":")
	if plain, err := url.PathUnescape(user); err == nil && plain == url.PathEscape(plain) {
		user = plain
	}
	if i := strings.LastIndexByte(host, ':'); i > strings.IndexByte(host, ']') {
		host = host[:i]
	}
	if scheme == "sips" {
		scheme = "sip"
	}
	host = strings.ToLower(host)
	phone := slices.Contains(strings.Split(strings.ToLower(params), ";"), "user=phone")
	if n, ok := globalNumber(user); ok && (phone || host == strings.ToLower(a.domain)) {
		return "tel:" + n
	}
	return scheme + ":" + user + "@" + host
}

// globalNumber returns a user that is a global telephone number (RFC 3966 section 5.1.4) without
// visual separators, and whether it is one.
func globalNumber(user string) (string, bool) {
	digits, ok := strings.CutPrefix(user, "+")
	digits = strings.NewReplacer("-", "", ".", "", "(", "", ")", "").Replace(digits)
	return "+" + digits, ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}
