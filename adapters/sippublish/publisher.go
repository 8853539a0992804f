// Package sippublish is an event publication agent (RFC 3903): it tells a SIP presence
// server of presence by PUBLISH.
package sippublish

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/busylamp/busylamp"
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
	cfg       Config
	client    *sipnet.Client
	route     string // the header line that names the server, when requests go to a proxy first; else ""
	userAgent string // the header line, "" for none
	numbersAt string // the host of numbers
	taps      taps
	tapped    atomic.Bool // taps has any

	lockout lockout
}

const defaultTimeout = 32 * time.Second

// New returns a publisher. It connects when it first publishes.
func New(cfg Config) (*Publisher, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	p := &Publisher{cfg: cfg, numbersAt: bracketed(cfg.NumbersAt)}
	if cfg.UserAgent != "" {
		p.userAgent = "User-Agent: " + cfg.UserAgent + "\r\n"
	}
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
func routeTo(t sipnet.Target) string {
	host := bracketed(t.Host)
	if t.Port != 0 {
		host += ":" + strconv.Itoa(t.Port)
	}
	return "Route: <sip:" + host + ";lr;transport=" + t.Transport + ">\r\n"
}

// bracketed returns a host as a URI has it (RFC 3986 section 3.2.2).
func bracketed(host string) string {
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		return "[" + host + "]"
	}
	return host
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
	d := drafts.Get().(*sipnet.Draft)
	defer drafts.Put(d)
	if err := p.write(d, r); err != nil {
		return busylamp.Outcome{Result: busylamp.Refused, Reason: err.Error()}
	}
	res, err := p.client.Send(p.traced(ctx, r.Presentity), d)
	if err != nil {
		return failed(err)
	}
	return p.lockout.settle(outcome(res, r.Tag != ""), time.Now())
}
