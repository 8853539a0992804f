package sipnet

import (
	"net/netip"
	"time"
)

// Status is what there is to know of a client's way to its server.
type Status struct {
	Hops []Hop // in the order of preference; none before DNS has answered
	// Certificate and ServerCertificate are when ours and the server's end, or what vouches
	// for them does before; zero if there is none, or none was seen yet.
	Certificate, ServerCertificate time.Time
	DNS                            error // what asking for the server's name failed by last; nil if it did not
}

// Hop is one address of the server.
type Hop struct {
	Address   netip.AddrPort
	Transport string
	Name      string // the host's that the address is of
	Up, InUse bool
	Since     time.Time // it is up or down
	Why       string    // it is down
}

// Status returns the present state.
func (c *Client) Status() Status {
	var s Status
	if c.tls != nil {
		s.Certificate, s.ServerCertificate = c.tls.expiries()
	}
	s.DNS = c.name.failing()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.hops {
		s.Hops = append(s.Hops, Hop{Address: h.addr, Transport: c.cfg.Server.Transport, Name: h.name,
			Up: !h.down, InUse: h == c.using, Since: h.since, Why: h.why})
	}
	return s
}
