package sipnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Target is a presence server: where requests go, whatever their Request-URI.
type Target struct {
	Host      string // a name or an address, an IPv6 one without its brackets
	Port      int    // 0: 5060
	Transport string // "udp" or "tcp"
}

// ParseTarget reads "sip:HOST[:PORT][;transport=udp|tcp]". It is strict: a parameter that
// it does not know is rather a misspelt transport than something to ignore.
func ParseTarget(s string) (Target, error) {
	bad := func(format string, args ...any) (Target, error) {
		return Target{}, fmt.Errorf("%q: %s: want sip:HOST[:PORT];transport=udp|tcp", s, fmt.Sprintf(format, args...))
	}
	rest, ok := strings.CutPrefix(s, "sip:")
	if !ok {
		return bad("not a sip: URI")
	}
	t := Target{Transport: "udp"}
	host, params, hasParams := strings.Cut(rest, ";")
	if i := strings.LastIndexByte(host, ':'); i > strings.IndexByte(host, ']') {
		port, err := strconv.ParseUint(host[i+1:], 10, 16)
		if err != nil || port == 0 {
			return bad("port %q", host[i+1:])
		}
		host, t.Port = host[:i], int(port)
	}
	if t.Host, ok = hostOf(host); !ok {
		return bad("%q is neither a name nor an address (IPv6 in brackets, no zone)", host)
	}
	if hasParams {
		name, value, _ := strings.Cut(params, "=")
		if !strings.EqualFold(name, "transport") {
			return bad("parameter %q", params)
		}
		if t.Transport = strings.ToLower(value); t.Transport != "udp" && t.Transport != "tcp" {
			return bad("transport %q", value)
		}
	}
	return t, nil
}

// hostOf returns a URI's host without brackets, and whether it is one. Link-local IPv6
// addresses need a zone, and a SIP URI has no place for that.
func hostOf(s string) (string, bool) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		ip, err := netip.ParseAddr(inner)
		return inner, ok && err == nil && ip.Is6() && ip.Zone() == ""
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return "", false
		}
	}
	return s, s != "" && len(s) <= 253
}

// String returns the target as it is configured.
func (t Target) String() string {
	return fmt.Sprintf("sip:%s;transport=%s", net.JoinHostPort(t.Host, strconv.Itoa(t.port())), t.Transport)
}

func (t Target) port() int {
	if t.Port == 0 {
		return 5060
	}
	return t.Port
}

const (
	// dnsAge is how long an answer of DNS is good without asking again.
	dnsAge = time.Minute
	// dnsTimeout bounds asking again, for which no request waits.
	dnsTimeout = 10 * time.Second
)

// resolver knows a target's address. The first request waits for DNS; afterwards the last
// good answer serves, and is renewed beside the requests, so that neither a slow nor a
// broken DNS holds up or fails any.
type resolver struct {
	target Target
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

	mu     sync.Mutex
	addr   netip.AddrPort
	asked  time.Time
	asking bool
}

// resolve returns the address. What it starts beside ends with life and counts in busy.
func (r *resolver) resolve(ctx, life context.Context, busy *sync.WaitGroup) (netip.AddrPort, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.addr.IsValid() {
		r.mu.Unlock()
		ips, err := r.lookup(ctx, "ip", r.target.Host)
		r.mu.Lock()
		return r.answered(ips, err)
	}
	if !r.asking && time.Since(r.asked) >= dnsAge {
		r.asking = true
		busy.Go(func() {
			ctx, cancel := context.WithTimeout(life, dnsTimeout)
			defer cancel()
			ips, err := r.lookup(ctx, "ip", r.target.Host)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.asking = false
			r.answered(ips, err)
		})
	}
	return r.addr, nil
}

// answered takes what DNS says; r.mu is held. An address stays as long as it is among the
// answers: publications are there, and DNS shuffles.
func (r *resolver) answered(ips []netip.Addr, err error) (netip.AddrPort, error) {
	if err == nil && len(ips) == 0 {
		err = errors.New("no address")
	}
	r.asked = time.Now()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("name of server %s: %w", r.target, err)
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	if !slices.Contains(ips, r.addr.Addr()) {
		r.addr = netip.AddrPortFrom(ips[0], uint16(r.target.port()))
	}
	return r.addr, nil
}
