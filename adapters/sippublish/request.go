package sippublish

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/pidf"
	"github.com/busylamp/busylamp/adapters/sipnet"
)

// drafts are those of earlier requests, whose buffers serve again.
var drafts = sync.Pool{New: func() any { return new(sipnet.Draft) }}

// write makes a PUBLISH of a draft: RFC 3903 section 4.1, table 1. A publication is no dialog,
// so every request has its own From tag and Call-ID and a CSeq of 1, as AudioCodes' have.
func (p *Publisher) write(d *sipnet.Draft, r busylamp.Request) error {
	uri, domain, err := p.uriOf(r.Presentity)
	if err != nil {
		return err
	}
	d.Method, d.URI, d.Domain, d.Number, d.Timeout, d.Brief = sip.PUBLISH, uri, domain, 1, p.cfg.Timeout, true
	d.Contact.Before = append(append(append(d.Contact.Before[:0], "<sip:"...), r.Presentity.User()...), '@')
	d.Contact.After = append(d.Contact.After[:0], '>')
	d.Head = append(d.Head[:0], p.route...)
	d.Head = append(append(append(d.Head, "From: <"...), uri...), ">;tag="...)
	d.Head = append(sipnet.AppendToken(d.Head, 16), "\r\nTo: <"...)
	d.Head = append(append(d.Head, uri...), ">\r\nCall-ID: "...)
	d.Head = append(sipnet.AppendToken(d.Head, 24), "\r\n"...)
	d.Tail = append(d.Tail[:0], "Max-Forwards: 70\r\nEvent: presence\r\nExpires: "...)
	// Whole seconds, rounded up: 0 would remove the publication.
	d.Tail = strconv.AppendInt(d.Tail, int64((r.Expires+time.Second-1)/time.Second), 10)
	d.Tail = append(append(d.Tail, "\r\n"...), p.userAgent...)
	if r.Tag != "" {
		d.Tail = append(append(append(d.Tail, "SIP-If-Match: "...), r.Tag...), "\r\n"...)
	}
	d.Body = d.Body[:0]
	if r.Kind == busylamp.Initial || r.Kind == busylamp.Modify || r.Kind == busylamp.Refresh && p.cfg.RefreshBody {
		d.Tail = append(d.Tail, "Content-Type: "+pidf.ContentType+"\r\n"...)
		d.Body = p.appendBody(d.Body, r)
	}
	return nil
}

// uriOf returns what a presentity is called at the server, and the host in that. It is
// canonical, and goes out byte for byte; what could end the URI or its line is looked for all
// the same, since its user part is a stranger's. A number becomes somebody at a host (RFC 3261
// section 19.1.6).
func (p *Publisher) uriOf(who busylamp.Presentity) (uri, domain string, err error) {
	user, domain := who.User(), who.Domain()
	uri = string(who)
	if who.IsNumber() {
		domain = p.numbersAt
		uri = "sip:" + user + "@" + domain + ";user=phone"
	}
	isSIP := strings.HasPrefix(string(who), "sip:") || who.IsNumber()
	if !isSIP || user == "" || domain == "" || !isPlain(string(who)) {
		return "", "", fmt.Errorf("presentity %q: want sip:USER@HOST or tel:+NUMBER", who)
	}
	return uri, domain, nil
}

// isPlain returns whether a URI can stand between angle brackets.
func isPlain(uri string) bool {
	for i := range len(uri) {
		if c := uri[i]; c <= ' ' || c >= 0x7f || c == '<' || c == '>' || c == '"' {
			return false
		}
	}
	return true
}

// activities are what the states that are published look like in a body.
var activities = map[busylamp.State]pidf.Activity{
	busylamp.Away:         pidf.Away,
	busylamp.Ringing:      pidf.Ringing,
	busylamp.Busy:         pidf.Busy,
	busylamp.Meeting:      pidf.Meeting,
	busylamp.OnThePhone:   pidf.OnThePhone,
	busylamp.Presenting:   pidf.Busy,
	busylamp.DoNotDisturb: pidf.Busy,
	busylamp.OtherCall:    pidf.OnThePhone,
	busylamp.Forwarded:    pidf.Away, // not at this phone
	busylamp.Available:    pidf.Available,
}

// notes are the texts beside states that share an activity with another.
var notes = map[busylamp.State]string{
	busylamp.DoNotDisturb: "Do not disturb",
	busylamp.Presenting:   "Presenting",
	busylamp.Forwarded:    "Calls forwarded",
}

// SeenAs is as what else a state can be read at the server: the note that tells it from another
// may be lost on the way.
func (p Profile) SeenAs(s busylamp.State) busylamp.State {
	switch {
	case p == AudioCodes && s.Published():
		return busylamp.OnThePhone
	case s == busylamp.Forwarded:
		return busylamp.Away
	case s == busylamp.Away || s == busylamp.Available:
		return s
	default:
		return busylamp.Busy
	}
}

func (p *Publisher) appendBody(b []byte, r busylamp.Request) []byte {
	d := pidf.Document{Entity: string(r.Presentity), DisplayName: r.DisplayName,
		TupleID: p.cfg.TupleID, Activity: activities[r.State], Note: notes[r.State]}
	if p.cfg.Profile != AudioCodes {
		return pidf.AppendRPID(b, d)
	}
	if d.DisplayName == "" {
		d.DisplayName = r.Presentity.User()
		if plain, err := url.PathUnescape(d.DisplayName); err == nil {
			d.DisplayName = plain // people read it
		}
	}
	return pidf.AppendAudioCodes(b, d)
}
