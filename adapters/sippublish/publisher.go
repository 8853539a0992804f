// Package sippublish is an event publication agent (RFC 3903): it tells a SIP presence
// server of presence by PUBLISH.
package sippublish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/pidf"
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
	Name      string
	Server    Target
	Profile   Profile
	TupleID   string // "" for the profile's own
	UserAgent string // the User-Agent header
	// Timeout bounds one request. The default, RFC 3261's Timer F of 32 s, lets the
	// transaction's own retransmissions bridge a server's outage without a second
	// publication.
	Timeout time.Duration
}

// Publisher publishes to one server.
type Publisher struct {
	cfg  Config
	ua   *sipgo.UserAgent
	mu   sync.Mutex
	path *path // to the server; made when first needed
}

const (
	defaultTimeout = 32 * time.Second
	tcpTimeout     = 5 * time.Second // to write to a connection
)

// New returns a publisher. It connects when it first publishes.
func New(cfg Config) (*Publisher, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	quiet := slog.New(slog.DiscardHandler) // what matters comes back as an outcome
	ua, err := sipgo.NewUA(
		sipgo.WithUserAgentTransactionLayerOptions(
			sip.WithTransactionLayerLogger(quiet), sip.WithTransactionLayerTerminateOnConnClose()),
		sipgo.WithUserAgentTransportLayerOptions(
			sip.WithTransportLayerLogger(quiet),
			sip.WithTransportLayerTransports(sip.TransportsConfig{TCP: &sip.TransportTCP{WriteTimeout: tcpTimeout}})),
	)
	if err != nil {
		return nil, fmt.Errorf("publisher %s: %w", cfg.Name, err)
	}
	return &Publisher{cfg: cfg, ua: ua}, nil
}

// Close ends all connections. Requests that are under way fail.
func (p *Publisher) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.path != nil {
		p.path.close()
	}
	return p.ua.Close()
}

// Publish sends one PUBLISH and waits for its answer.
func (p *Publisher) Publish(ctx context.Context, r busylamp.Request) busylamp.Outcome {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	way, err := p.way(ctx)
	if err != nil {
		return failed(err)
	}
	req, err := p.request(r)
	if err != nil {
		return busylamp.Outcome{Result: busylamp.Refused, Reason: err.Error()}
	}
	res, err := way.exchange(ctx, req)
	if errors.Is(err, sip.ErrUDPMTUCongestion) {
		// RFC 3261 section 18.1.1: a request above 1,300 bytes goes by TCP.
		if req, err = p.request(r); err == nil {
			res, err = way.exchangeTCP(ctx, req)
		}
	}
	if err != nil {
		p.lost(way, err)
		return failed(err)
	}
	return outcome(res)
}

// request builds a PUBLISH: RFC 3903 section 4.1, table 1. A publication is no dialog, so
// every request has its own From tag and Call-ID and a CSeq of 1, as AudioCodes' have.
func (p *Publisher) request(r busylamp.Request) (*sip.Request, error) {
	var uri sip.Uri
	if err := sip.ParseUri(string(r.Presentity), &uri); err != nil {
		return nil, fmt.Errorf("presentity %s: %w", r.Presentity, err)
	}
	req := sip.NewRequest(sip.PUBLISH, uri)
	from := &sip.FromHeader{Address: *uri.Clone()}
	from.Params.Add("tag", sip.GenerateTagN(16))
	callID := sip.CallIDHeader(sip.GenerateTagN(24))
	maxForwards := sip.MaxForwardsHeader(70)
	req.AppendHeader(from)
	req.AppendHeader(&sip.ToHeader{Address: *uri.Clone()})
	req.AppendHeader(&callID)
	req.AppendHeader(&sip.CSeqHeader{SeqNo: 1, MethodName: sip.PUBLISH})
	req.AppendHeader(&maxForwards)
	req.AppendHeader(sip.NewHeader("Event", "presence"))
	req.AppendHeader(sip.NewHeader("Expires", strconv.Itoa(int(r.Expires.Seconds()))))
	if r.Tag != "" {
		req.AppendHeader(sip.NewHeader("SIP-If-Match", r.Tag))
	}
	req.AppendHeader(sip.NewHeader("User-Agent", p.cfg.UserAgent))
	if r.Kind == busylamp.Initial || r.Kind == busylamp.Modify {
		req.AppendHeader(sip.NewHeader("Content-Type", pidf.ContentType))
		req.SetBody(p.body(r))
	}
	return req, nil
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
}

func (p *Publisher) body(r busylamp.Request) []byte {
	d := pidf.Document{Entity: string(r.Presentity), DisplayName: r.DisplayName,
		TupleID: p.cfg.TupleID, Activity: activities[r.State]}
	if r.State == busylamp.DoNotDisturb {
		d.Note = "Do not disturb"
	}
	if p.cfg.Profile == AudioCodes {
		if d.DisplayName == "" {
			d.DisplayName = r.Presentity.User()
		}
		return pidf.AudioCodes(d)
	}
	return pidf.RPID(d)
}

// way returns the path to the server, a new one if there is none or its address changed.
func (p *Publisher) way(ctx context.Context) (*path, error) {
	addr, err := p.cfg.Server.resolve(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.path != nil && p.path.addr == addr {
		return p.path, nil
	}
	way, err := newPath(p.ua, addr, p.cfg.Server.Transport)
	if err != nil {
		return nil, err
	}
	if p.path != nil {
		p.path.close()
	}
	p.path = way
	return way, nil
}

// lost gives a path up whose socket cannot be written to any more, say because its local
// address is gone.
func (p *Publisher) lost(way *path, err error) {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, sip.ErrTransactionTimeout) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.path == way {
		p.path.close()
		p.path = nil
	}
}
