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
	"sync"

	"github.com/emiago/sipgo/sip"
)

// Config says which server, and how to speak to it.
type Config struct {
	Server Target
	TLS    TLS // for the transport tls
	// Username and Password answer a digest challenge (RFC 3261 section 22); "" for none.
	Username, Password string
	// Log is told of what goes on beside the requests: servers that are left and returned
	// to, certificates, DNS. nil for nothing.
	Log *slog.Logger
}

// Client sends requests to one server.
type Client struct {
	cfg  Config
	name resolver
	life context.Context // ends with Close
	end  context.CancelFunc
	busy sync.WaitGroup // requests under way and what they started

	mu     sync.Mutex
	path   *path // to the server; made when first needed
	closed bool
}

var errClosed = errors.New("the client is closed")

// New returns a client. It connects when it first sends.
func New(cfg Config) (*Client, error) {
	if cfg.Server.Host == "" {
		return nil, fmt.Errorf("server %s: no host", cfg.Server)
	}
	c := &Client{cfg: cfg, name: resolver{target: cfg.Server, lookup: net.DefaultResolver.LookupNetIP}}
	c.life, c.end = context.WithCancel(context.Background())
	return c, nil
}

// Close ends all connections. Requests that are under way fail first.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end()
	c.busy.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.path != nil {
		c.path.close()
		c.path = nil
	}
	return nil
}

// Do sends a request and returns its final answer. It writes the Via, and completes a
// Contact that has no host with the address and the transport that the request leaves by.
// An error says that there was no answer: ctx ended, or the server cannot be reached.
func (c *Client) Do(ctx context.Context, req *sip.Request) (*sip.Response, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	if err := c.begin(); err != nil {
		return nil, err
	}
	defer c.busy.Done()
	addr, err := c.name.resolve(ctx, c.life, &c.busy)
	if err != nil {
		return nil, err
	}
	way, err := c.enter(addr)
	if err != nil {
		return nil, err
	}
	defer c.leave(way)
	return way.exchange(ctx, req)
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

// enter returns the path to the server, a new one if there is none that can be used. The
// old one ends with its last request.
func (c *Client) enter(addr netip.AddrPort) (*path, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.path; old == nil || old.addr != addr || old.broken.Load() {
		way, err := newPath(addr, c.cfg.Server.Transport)
		if err != nil {
			return nil, err
		}
		c.path = way
		if old != nil && old.users == 0 {
			old.close()
		}
	}
	c.path.users++
	return c.path, nil
}

func (c *Client) leave(way *path) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if way.users--; way.users == 0 && way != c.path {
		way.close()
	}
}
