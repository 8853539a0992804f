package sippublish

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
)

// Target is a presence server: where requests go, whatever their Request-URI.
type Target struct {
	Host      string
	Port      int    // 0: 5060
	Transport string // "udp" or "tcp"

	cache *resolved
}

// resolved remembers an address, so that a request does not wait for DNS.
type resolved struct {
	mu   sync.Mutex
	addr netip.AddrPort
	at   time.Time
}

// dnsAge is how long an answer of DNS is good without asking again.
const dnsAge = time.Minute

// ParseTarget reads "sip:HOST[:PORT][;transport=udp|tcp]".
func ParseTarget(s string) (Target, error) {
	var uri sip.Uri
	if !strings.HasPrefix(s, "sip:") {
		return Target{}, fmt.Errorf("%q: want sip:HOST[:PORT];transport=udp|tcp", s)
	}
	if err := sip.ParseUri(s, &uri); err != nil || uri.Host == "" || uri.User != "" {
		return Target{}, fmt.Errorf("%q: want sip:HOST[:PORT];transport=udp|tcp", s)
	}
	t := Target{Host: strings.Trim(uri.Host, "[]"), Port: uri.Port, Transport: "udp", cache: &resolved{}}
	if v, ok := uri.UriParams.Get("transport"); ok {
		t.Transport = strings.ToLower(v)
	}
	if t.Transport != "udp" && t.Transport != "tcp" {
		return Target{}, fmt.Errorf("%q: transport %q: want udp or tcp", s, t.Transport)
	}
	if t.Port < 0 || t.Port > 65535 {
		return Target{}, fmt.Errorf("%q: port %d: want 1 to 65535", s, t.Port)
	}
	return t, nil
}

// String returns the target as it is configured.
func (t Target) String() string {
	return fmt.Sprintf("sip:%s;transport=%s", net.JoinHostPort(t.Host, fmt.Sprint(t.port())), t.Transport)
}

func (t Target) port() int {
	if t.Port == 0 {
		return 5060
	}
	return t.Port
}

// resolve returns the server's address. The last good one serves when DNS fails.
func (t Target) resolve(ctx context.Context) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(t.Host); err == nil {
		return netip.AddrPortFrom(ip, uint16(t.port())), nil
	}
	t.cache.mu.Lock()
	defer t.cache.mu.Unlock()
	if t.cache.addr.IsValid() && time.Since(t.cache.at) < dnsAge {
		return t.cache.addr, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", t.Host)
	if err == nil && len(ips) == 0 {
		err = errors.New("no address")
	}
	if err != nil {
		if t.cache.addr.IsValid() {
			return t.cache.addr, nil
		}
		return netip.AddrPort{}, fmt.Errorf("server %s: %w", t.Host, err)
	}
	t.cache.addr, t.cache.at = netip.AddrPortFrom(ips[0].Unmap(), uint16(t.port())), time.Now()
	return t.cache.addr, nil
}

// path is the way to one address: for UDP a socket of our own.
type path struct {
	addr      netip.AddrPort
	transport string
	client    *sipgo.Client // by transport
	tcp       *sipgo.Client
	socket    net.PacketConn
}

// socketBuffer is asked of the kernel for a UDP socket. With the default one, answers to a
// burst of a few hundred requests are lost.
const socketBuffer = 4 << 20

func newPath(ua *sipgo.UserAgent, addr netip.AddrPort, transport string) (*path, error) {
	tcp, err := sipgo.NewClient(ua)
	if err != nil {
		return nil, err
	}
	p := &path{addr: addr, transport: transport, client: tcp, tcp: tcp}
	if transport == "udp" {
		return p, p.openUDP(ua)
	}
	return p, nil
}

// openUDP binds the socket to the address that the kernel would send from, since that
// goes into the Via header.
func (p *path) openUDP(ua *sipgo.UserAgent) error {
	probe, err := net.Dial("udp", p.addr.String())
	if err != nil {
		return fmt.Errorf("server %s: %w", p.addr, err)
	}
	local := probe.LocalAddr().(*net.UDPAddr)
	probe.Close()
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: local.IP, Zone: local.Zone})
	if err != nil {
		return fmt.Errorf("socket to %s: %w", p.addr, err)
	}
	socket.SetReadBuffer(socketBuffer)
	socket.SetWriteBuffer(socketBuffer)
	p.socket = socket
	bound := socket.LocalAddr().String()
	if p.client, err = sipgo.NewClient(ua, sipgo.WithClientConnectionAddr(bound)); err != nil {
		return err
	}
	go ua.TransportLayer().ServeUDP(socket) // ends when the socket is closed
	for range 1000 {
		if c, err := ua.TransportLayer().GetConnection("udp", bound); err == nil && c != nil {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("socket %s: not served", bound)
}

func (p *path) close() {
	if p.socket != nil {
		p.socket.Close()
	}
}

// exchange sends a request and returns its final answer.
func (p *path) exchange(ctx context.Context, req *sip.Request) (*sip.Response, error) {
	return p.do(ctx, p.client, p.transport, req)
}

func (p *path) exchangeTCP(ctx context.Context, req *sip.Request) (*sip.Response, error) {
	return p.do(ctx, p.tcp, "tcp", req)
}

func (p *path) do(ctx context.Context, c *sipgo.Client, transport string, req *sip.Request) (*sip.Response, error) {
	req.SetTransport(strings.ToUpper(transport))
	req.SetDestination(p.addr.String())
	return c.Do(ctx, req)
}
