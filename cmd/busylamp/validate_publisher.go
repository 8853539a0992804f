package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/busylamp/busylamp/adapters/sipnet"
)

// Bounds of what goes into a publisher's requests, in bytes.
const (
	maxUserAgent = 128
	maxUsername  = 255
)

// publishers checks the publishers; domains are the canonical ones that are published for.
func (p *problems) publishers(list []publisherConfig, domains []string) {
	if len(list) == 0 {
		p.add("publishers", "missing: give at least one presence server, with its name and server")
	}
	names := make(map[string]string)
	for i := range list {
		pub, at := &list[i], entry("publishers", i)
		p.name(at, pub.Name, names)
		if p.given(child(at, "server"), pub.Server, "the presence server, such as sip:presence.example.com") {
			p.target(child(at, "server"), pub.Server)
		}
		if pub.OutboundProxy != "" {
			p.target(child(at, "outbound_proxy"), pub.OutboundProxy)
		}
		p.tls(at, *pub)
		p.credentials(at, pub)
		p.lifetimes(at, *pub)
		if pub.TupleID != "" && !xmlName.MatchString(pub.TupleID) {
			p.bad(child(at, "tuple_id"), pub.TupleID, "cannot be an XML id: write up to 64 letters, digits, "+
				"-, _ and ., a letter or _ first")
		}
		p.userAgent(child(at, "user_agent"), pub.UserAgent)
		pub.Filter = p.filter(child(at, "filter"), pub.Filter, domains)
	}
}

// lifetimes checks those of publications, which SIP counts in seconds.
func (p *problems) lifetimes(at string, pub publisherConfig) {
	here := child(at, "initial_expires")
	p.wholeSeconds(child(at, "expires"), pub.Expires)
	p.wholeSeconds(here, pub.InitialExpires)
	switch d := pub.InitialExpires; {
	case d > pub.Expires:
		p.add(here, fmt.Sprintf("%v is more than expires, which is %v: write less, or 0s for as long as that", d, pub.Expires))
	case d > 0 && d < 10*time.Second:
		p.add(here, fmt.Sprintf("%v is too short: write 10s at least, or 0s for as long as expires", d))
	}
}

func (p *problems) wholeSeconds(at string, d time.Duration) {
	if d%time.Second != 0 {
		p.add(at, d.String()+" is no whole number of seconds: write such as 600s")
	}
}

// userAgent checks the header's value: nothing but printable ASCII is safe with every
// server.
func (p *problems) userAgent(at, value string) {
	if len(value) > maxUserAgent || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > unicode.MaxASCII }) ||
		strings.TrimSpace(value) != value {
		p.bad(at, value, fmt.Sprintf("cannot be a User-Agent: write up to %d printable ASCII characters, such as pbx/1.0, "+
			"with no space at the ends", maxUserAgent))
	}
}

// target checks the URI of a SIP server.
func (p *problems) target(at, value string) {
	const fix = "write it like sip:presence.example.com, sip:192.0.2.1:5060;transport=tcp or sips:presence.example.com"
	head, params, hasParams := strings.Cut(value, ";")
	name, transport, _ := strings.Cut(params, "=")
	hostPart, isSIP := strings.CutPrefix(head, "sip:")
	hostPart, isSIPS := strings.CutPrefix(hostPart, "sips:")
	switch transport = strings.ToLower(transport); {
	case isSIP == isSIPS:
		p.bad(at, value, "is not sip:HOST[:PORT] or sips:HOST[:PORT]: "+fix)
	case hasParams && !strings.EqualFold(name, "transport"):
		p.bad(at, value, "has parameters other than transport: "+fix)
	case isSIPS && transport == "udp":
		p.bad(at, value, "cannot be: sips: is by TLS. Write sip: or remove transport=udp")
	case hasParams && transport != "udp" && transport != "tcp" && transport != "tls":
		p.bad(at, value, "has a transport other than udp, tcp and tls: "+fix)
	case !isServer(hostPart):
		p.bad(at, value, "has no valid host and port: "+fix)
	default:
		if _, err := sipnet.ParseTarget(value); err != nil {
			p.bad(at, value, "cannot be used: "+fix)
		}
	}
}

// isServer tells host or host:port, an IPv6 address in brackets.
func isServer(s string) bool {
	if host, port, err := net.SplitHostPort(s); err == nil {
		return isPort(port) && isHost(host)
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		ip, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		return err == nil && ip.Is6() && ip.Zone() == "" && strings.HasSuffix(inner, "]")
	}
	return isHost(s) && !strings.Contains(s, ":")
}
