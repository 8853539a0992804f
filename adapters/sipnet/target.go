package sipnet

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Target is a SIP server: where requests go, whatever their Request-URI.
type Target struct {
	Host      string // a name or an address, an IPv6 one without its brackets
	Port      int    // 0: what DNS says of the name (SRV), or else the transport's own
	Transport string // "udp", "tcp" or "tls"
}

// ParseTarget reads "sip:HOST[:PORT][;transport=udp|tcp|tls]" or "sips:HOST[:PORT]", which
// is TLS (RFC 3261 section 26.2.2). It is strict: a parameter that it does not know is
// rather a misspelt transport than something to ignore.
func ParseTarget(s string) (Target, error) {
	bad := func(format string, args ...any) (Target, error) {
		return Target{}, fmt.Errorf("%q: %s: want sip:HOST[:PORT];transport=udp|tcp|tls", s, fmt.Sprintf(format, args...))
	}
	scheme, rest, _ := strings.Cut(s, ":")
	t := Target{Transport: "udp"}
	switch scheme {
	case "sip":
	case "sips":
		t.Transport = "tls"
	default:
		return bad("not a sip: or sips: URI")
	}
	host, params, hasParams := strings.Cut(rest, ";")
	if i := strings.LastIndexByte(host, ':'); i > strings.IndexByte(host, ']') {
		port, err := strconv.ParseUint(host[i+1:], 10, 16)
		if err != nil || port == 0 {
			return bad("port %q", host[i+1:])
		}
		host, t.Port = host[:i], int(port)
	}
	var ok bool
	if t.Host, ok = hostOf(host); !ok {
		return bad("%q is neither a name nor an address (IPv6 in brackets, no zone)", host)
	}
	if hasParams {
		name, value, _ := strings.Cut(params, "=")
		if !strings.EqualFold(name, "transport") {
			return bad("parameter %q", params)
		}
		if t.Transport, ok = transportOf(scheme, strings.ToLower(value)); !ok {
			return bad("transport %q", value)
		}
	}
	return t, nil
}

// transportOf returns the transport that a scheme and its parameter stand for. Under sips,
// "tcp" is TLS over TCP: there the RFC knows no other word for it.
func transportOf(scheme, parameter string) (string, bool) {
	if scheme == "sips" {
		return "tls", parameter == "tls" || parameter == "tcp"
	}
	return parameter, parameter == "udp" || parameter == "tcp" || parameter == "tls"
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

// String returns the target as it is configured: without a port if it has none, for that
// is another target than the one with the transport's own.
func (t Target) String() string {
	host := t.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if t.Port != 0 {
		host += ":" + strconv.Itoa(t.Port)
	}
	return "sip:" + host + ";transport=" + t.Transport
}

func (t Target) port() uint16 {
	switch {
	case t.Port != 0:
		return uint16(t.Port)
	case t.Transport == "tls":
		return 5061
	default:
		return 5060
	}
}
