// Package sipnet carries SIP requests to a server and brings back the answers: finding the
// server (RFC 3263), the connection to it, TLS, the client transaction (RFC 3261 section
// 17.1.2) and digest authentication. It knows nothing of what the requests are for.
package sipnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

// Config says which server, and how to speak to it.
type Config struct {
	Server Target
	TLS    TLS // for the transport tls
	// Username and Password answer a digest challenge (RFC 3261 section 22); "" for none.
	Username, Password string
	// Resolver asks DNS; nil for the system's.
	Resolver *net.Resolver
	// Realms says whether a challenge of a realm is answered, for a server whose word is not
	// to be taken for that: what it makes of our answer it could try passwords on. nil
	// answers all.
	Realms func(realm string) bool
	// OnRequest answers a request that the server sends over our own socket or connection, by
	// a response made with sip.NewResponseFromRequest, or not at all (nil). It is called from
	// up to 64 goroutines, never with ACK, and again for a request that is sent again. Close
	// waits for it. nil answers OPTIONS with 200 and anything else with 405.
	OnRequest func(*sip.Request) *sip.Response
	// AnyPeer takes requests over UDP from any address, and not from the server's alone: who
	// notifies need not be who was subscribed at.
	AnyPeer bool
	// Patient has OnRequest called for one request after another of a socket or connection,
	// in the order in which they came, and the reading wait where there are too many, so that
	// none is refused: for one that is quick, and that waits for no answer of this client.
	Patient bool
	// MaxMessage bounds a message on a connection, in bytes; 0 for 65,535, which bounds its
	// headers in any case. A larger one ends the connection.
	MaxMessage int
	// OnLost is told that a socket or connection of ours has ended: what the server sends to
	// a Contact with its address is lost. It must not wait for the client.
	OnLost func(local netip.AddrPort)
	// Log is told of what goes on beside the requests: servers that are left and returned
	// to, certificates, DNS. nil for nothing.
	Log *slog.Logger
}

// Client sends requests to one server, which may be had at several addresses.
type Client struct {
	cfg  Config
	log  *slog.Logger
	pace tempo
	name resolver
	tls  *identity // nil: not over TLS
	auth authenticator
	in   *inbound
	life context.Context // ends with Close
	end  context.CancelFunc
	busy sync.WaitGroup // requests under way and what they started

	mu      sync.Mutex
	hops    []*hop // in the order of preference
	using   *hop   // that requests go to
	probing bool   // a goroutine looks after the hops that are down
	closed  bool
}

var errClosed = errors.New("the client is closed")

// New returns a client. It reads the certificates, and connects when it first sends.
func New(cfg Config) (*Client, error) { return newClient(cfg, normal) }

func newClient(cfg Config, pace tempo) (*Client, error) {
	target := cfg.Server
	if target.Host == "" {
		return nil, fmt.Errorf("server %s: no host", target)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, log: cfg.Log, pace: pace, in: newInbound(cfg),
		auth: authenticator{username: cfg.Username, password: cfg.Password, realms: cfg.Realms}}
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	c.name = resolver{target: target, dns: prompt(cfg.Resolver), tempo: pace, log: c.log, learn: c.learn}
	if target.Transport == "tls" {
		var err error
		if c.tls, err = newIdentity(cfg.TLS, target, c.log); err != nil {
			return nil, err
		}
	} else if cfg.TLS != (TLS{}) {
		return nil, fmt.Errorf("server %s: tls is set, but this is no tls transport: write transport=tls, or leave tls out", target)
	}
	c.life, c.end = context.WithCancel(context.Background())
	if c.tls != nil {
		c.busy.Go(func() { c.tls.watch(c.life, pace.certAge) })
	}
	if ip, err := netip.ParseAddr(target.Host); err == nil {
		c.learn([]place{{addr: netip.AddrPortFrom(ip.Unmap(), target.port()), name: target.Host}})
	}
	return c, nil
}

// Challenged returns whether the server has asked who we are in a realm, of late.
func (c *Client) Challenged(realm string) bool {
	c.auth.mu.Lock()
	defer c.auth.mu.Unlock()
	return slices.ContainsFunc(c.auth.spaces, func(s *space) bool { return s.realm == realm })
}

// Close ends all connections. Requests that are under way fail first.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end()
	c.busy.Wait()
	c.mu.Lock()
	var idle []*path
	for _, h := range c.hops {
		idle = append(idle, h.detach()...)
	}
	c.mu.Unlock()
	closeAll(idle)
	return nil
}

// Do sends a request and returns its final answer. It writes the Via, and completes a
// Contact that has no host with the address and the transport that the request leaves by.
// A digest challenge is answered; a 401 or 407 that is left says in its reason phrase why it
// was not. Of the request, CSeq and Laddr are then those that it was sent with last. An error
// says that there was no answer: ctx ended, or the server cannot be reached.
func (c *Client) Do(ctx context.Context, req *sip.Request) (*sip.Response, error) {
	d := draftOf(req)
	res, err := c.Send(ctx, d)
	d.note(req)
	return res, err
}

// Send is [Client.Do] for a draft.
func (c *Client) Send(ctx context.Context, req *Draft) (*sip.Response, error) {
	if err := c.begin(); err != nil {
		return nil, err
	}
	defer c.busy.Done()
	req.until, _ = ctx.Deadline()
	if req.Timeout > 0 {
		if end := time.Now().Add(req.Timeout); req.until.IsZero() || end.Before(req.until) {
			req.until = end
		}
	}
	if err := c.name.ready(ctx, req.until, c.life, &c.busy); err != nil {
		return nil, err
	}
	return c.auth.do(ctx, req, c.try)
}

func (c *Client) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.busy.Add(1)
	return nil
}

// try sends a request to the hop in use and, while that is the hop's fault, to one after
// another, each with a branch of its own and none twice (RFC 3263 section 4.3). It returns
// what the last of them said, its Source being that hop.
func (c *Client) try(ctx context.Context, req *Draft) (res *sip.Response, err error) {
	var tried [maxHops]*hop
	for n := range tried {
		h := c.choose(tried[:n])
		if h == nil && n == 0 {
			return c.spared(), nil
		}
		if h == nil {
			break
		}
		tried[n] = h
		res, err = c.over(ctx, h, req)
		if c.judge(ctx, h, res, err) {
			break
		}
	}
	if res != nil && res.StatusCode == sip.StatusServiceUnavailable {
		c.relent(res)
	}
	return res, err
}

// over sends a request to one hop.
func (c *Client) over(ctx context.Context, h *hop, req *Draft) (*sip.Response, error) {
	way, err := c.enter(h)
	if err != nil {
		return nil, err
	}
	defer c.leave(h, way)
	res, err := way.exchange(ctx, req)
	if res != nil {
		res.SetSource(h.source)
	}
	return res, err
}

// enter returns the path to a hop, a new one if there is none that can be used. The old one
// ends with its last request.
func (c *Client) enter(h *hop) (*path, error) {
	c.mu.Lock()
	var idle []*path
	defer func() {
		c.mu.Unlock()
		closeAll(idle)
	}()
	if h.way == nil || !h.way.usable() {
		idle = h.detach()
		way, err := newPath(c.life, h.addr, c.cfg.Server.Transport, c.tls, c.in, c.pace, func(p *path, silent bool) { c.quiet(h, p, silent) })
		if err != nil {
			idle = append(idle, way)
			return nil, err
		}
		h.way = way
	}
	h.way.users++
	return h.way, nil
}

func (c *Client) leave(h *hop, way *path) {
	c.mu.Lock()
	way.users--
	last := way.users == 0 && (way != h.way || h.gone)
	if last && way == h.way {
		h.way = nil
	}
	c.mu.Unlock()
	if last {
		way.close()
	}
}

// closeAll closes paths that nobody uses, without the client's mutex: whoever reads from
// one may be waiting for that.
func closeAll(idle []*path) {
	for _, way := range idle {
		way.close()
	}
}
