// Package sippublish is an event publication agent (RFC 3903): it tells a SIP presence
// server of presence by PUBLISH.
package sippublish

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/pidf"
	"github.com/busylamp/busylamp/adapters/sipnet"
)

// Profile is the form of what is published.
type Profile string

// The profiles.
const (
	// RPID is rich presence by RFC 4480, which presence servers and phones understand.
	RPID Profile = "rpid"
	// AudioCodes is what AudioCodes' SBCs send to Skype for Business, to the letter.
	AudioCodes Profile = "audiocodes"
)

// Config says where and what to publish.
type Config struct {
	Name   string
	Server sipnet.Target
	Proxy  sipnet.Target // the outbound proxy that requests go to on their way; zero for none
	TLS    sipnet.TLS    // for the transport tls
	// Username and Password answer a digest challenge; "" for none.
	Username, Password string
	Profile            Profile
	TupleID            string // "" for the profile's own
	NumbersAt          string // the host that numbers (tel:) are users of at the server
	UserAgent          string // the User-Agent header
	// RefreshBody repeats the body in a refresh. RFC 3903 section 4.1 asks for none, but a
	// Kamailio presence server without a database forgets the one it has at such a refresh.
	RefreshBody bool
	// Timeout bounds one request. The default, RFC 3261's Timer F of 32 s, lets the
	// transaction's own retransmissions bridge a server's outage without a second
	// publication.
	Timeout time.Duration
	Log     *slog.Logger // nil for none
}

// Publisher publishes to one server.
type Publisher struct {
	cfg    Config
	client *sipnet.Client
	route  *sip.RouteHeader // to the server, when requests go to a proxy first; else nil
	taps   taps
	tapped atomic.Bool // taps has any

	lockout lockout
}

const defaultTimeout = 32 * time.Second

// New returns a publisher. It connects when it first publishes.
func New(cfg Config) (*Publisher, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	p := &Publisher{cfg: cfg}
	first := cfg.Server
	if cfg.Proxy != (sipnet.Target{}) {
		first, p.route = cfg.Proxy, routeTo(cfg.Server)
	}
	var err error
	p.client, err = sipnet.New(sipnet.Config{Server: first, TLS: cfg.TLS, Username: cfg.Username, Password: cfg.Password, Log: cfg.Log})
	if err != nil {
		return nil, fmt.Errorf("publisher %s: %w", cfg.Name, err)
	}
	return p, nil
}

// routeTo names the server to an outbound proxy, which need not know it: a loose route (RFC
// 3261 section 16.12), so that the Request-URI stays the presentity.
func routeTo(t sipnet.Target) *sip.RouteHeader {
	host := t.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	uri := sip.Uri{Scheme: "sip", Host: host, Port: t.Port}
	uri.UriParams.Add("lr", "")
	uri.UriParams.Add("transport", t.Transport)
	return &sip.RouteHeader{Address: uri}
}

// Status tells how the publisher stands with its server, or its outbound proxy.
func (p *Publisher) Status() sipnet.Status { return p.client.Status() }

// Connect connects beforehand, so that what is wrong shows before the first call; see
// [sipnet.Client.Connect].
func (p *Publisher) Connect(ctx context.Context) error { return p.client.Connect(ctx) }

// Close ends all connections. Requests that are under way fail first.
func (p *Publisher) Close() error { return p.client.Close() }

// Publish sends one PUBLISH and waits for its answer.
func (p *Publisher) Publish(ctx context.Context, r busylamp.Request) busylamp.Outcome {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	req, err := p.request(r)
	if err != nil {
		return busylamp.Outcome{Result: busylamp.Refused, Reason: err.Error()}
	}
	res, err := p.client.Do(p.traced(ctx, r.Presentity), req)
	if err != nil {
		return failed(err)
	}
	return p.lockout.settle(outcome(res, r.Tag != ""), time.Now())
}

// request builds a PUBLISH: RFC 3903 section 4.1, table 1. A publication is no dialog, so
// every request has its own From tag and Call-ID and a CSeq of 1, as AudioCodes' have.
func (p *Publisher) request(r busylamp.Request) (*sip.Request, error) {
	uri, err := p.uriOf(r.Presentity)
	if err != nil {
		return nil, err
	}
	req := sip.NewRequest(sip.PUBLISH, uri)
	from := &sip.FromHeader{Address: uri}
	from.Params.Add("tag", sip.GenerateTagN(16))
	callID := sip.CallIDHeader(sip.GenerateTagN(24))
	maxForwards := sip.MaxForwardsHeader(70)
	if p.route != nil {
		req.AppendHeader(p.route)
	}
	req.AppendHeader(from)
	req.AppendHeader(&sip.ToHeader{Address: uri})
	req.AppendHeader(&callID)
	req.AppendHeader(&sip.CSeqHeader{SeqNo: 1, MethodName: sip.PUBLISH})
	req.AppendHeader(&sip.ContactHeader{Address: sip.Uri{Scheme: "sip", User: uri.User}}) // sipnet knows the rest
	req.AppendHeader(&maxForwards)
	req.AppendHeader(sip.NewHeader("Event", "presence"))
	// Whole seconds, rounded up: 0 would remove the publication.
	req.AppendHeader(sip.NewHeader("Expires", strconv.Itoa(int((r.Expires+time.Second-1)/time.Second))))
	if p.cfg.UserAgent != "" {
		req.AppendHeader(sip.NewHeader("User-Agent", p.cfg.UserAgent))
	}
	if r.Tag != "" {
		req.AppendHeader(sip.NewHeader("SIP-If-Match", r.Tag))
	}
	var body []byte
	if r.Kind == busylamp.Initial || r.Kind == busylamp.Modify || r.Kind == busylamp.Refresh && p.cfg.RefreshBody {
		req.AppendHeader(sip.NewHeader("Content-Type", pidf.ContentType))
		body = p.body(r)
	}
	req.SetBody(body) // and Content-Length, 0 too
	return req, nil
}

// uriOf takes a presentity apart. It is canonical, and goes out byte for byte; what could
// end the URI or its line is looked for all the same, since its user part is a stranger's. A
// number becomes somebody at a host (RFC 3261 section 19.1.6).
func (p *Publisher) uriOf(who busylamp.Presentity) (sip.Uri, error) {
	uri := sip.Uri{Scheme: "sip", User: who.User(), Host: who.Domain()}
	if who.IsNumber() {
		uri.Host = p.cfg.NumbersAt
		uri.UriParams.Add("user", "phone")
	}
	isSIP := strings.HasPrefix(string(who), "sip:") || who.IsNumber()
	if !isSIP || uri.User == "" || uri.Host == "" || strings.ContainsFunc(string(who), func(r rune) bool {
		return r <= ' ' || r >= 0x7f || r == '<' || r == '>' || r == '"'
	}) {
		return sip.Uri{}, fmt.Errorf("presentity %q: want sip:USER@HOST or tel:+NUMBER", who)
	}
	return uri, nil
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

func (p *Publisher) body(r busylamp.Request) []byte {
	d := pidf.Document{Entity: string(r.Presentity), DisplayName: r.DisplayName,
		TupleID: p.cfg.TupleID, Activity: activities[r.State], Note: notes[r.State]}
	if p.cfg.Profile == AudioCodes {
		if d.DisplayName == "" {
			d.DisplayName = r.Presentity.User()
			if plain, err := url.PathUnescape(d.DisplayName); err == nil {
				d.DisplayName = plain // people read it
			}
		}
		return pidf.AudioCodes(d)
	}
	return pidf.RPID(d)
}
