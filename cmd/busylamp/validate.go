package main

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/kamailio"
)

// validate checks what tags cannot say, and brings values into the one form that the rest
// of the program expects.
func (p *problems) validate(c *config) {
	p.proxies(c.Kamailio)
	if len(c.Domains) == 0 {
		p.add("domains", "missing: give at least one domain whose users' presence is published")
	}
	given := len(c.Domains)
	c.Domains = p.domains("domains", c.Domains)
	known := c.Domains
	if p.wrong["domains"] || len(known) != given {
		known = nil // one that is misspelt may be meant
	}
	p.publishers(c.Publishers, known)
	if c.State == "" {
		p.bad("state", c.State, "is no directory: write its path, such as /var/lib/busylamp")
	}
	c.Admin = p.admin(c.Admin)
	c.Names = p.names(c.Names)
	p.sources(c, known)
}

func (p *problems) proxies(list []proxyConfig) {
	if len(list) == 0 {
		p.add("kamailio", "missing: give at least one proxy, with its name, evapi and rpc")
	}
	names := make(map[string]string)
	for i, k := range list {
		at := entry("kamailio", i)
		p.name(at, k.Name, names)
		if p.given(child(at, "evapi"), k.Evapi, "the address of Kamailio's evapi module, such as 127.0.0.1:8448") {
			p.hostPort(child(at, "evapi"), k.Evapi, "127.0.0.1:8448")
		}
		if p.given(child(at, "rpc"), k.RPC, "the address of Kamailio's JSON-RPC, such as http://127.0.0.1:5060/RPC") {
			p.rpc(child(at, "rpc"), k.RPC)
		}
		if k.Dump != "" && (!strings.HasPrefix(k.Dump, "/") || k.Dump != path.Clean(k.Dump)) {
			p.bad(child(at, "dump"), k.Dump, "is no absolute path in its shortest form: write it as BUSYLAMP_DUMP in the proxy's configuration has it, such as /run/busylamp")
		}
	}
}

// given tells whether a key that has no default is there.
func (p *problems) given(at, value, what string) bool {
	if value == "" {
		p.add(at, "missing: give "+what)
	}
	return value != ""
}

var (
	plainName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
	xmlName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,63}$`)
)

// name checks an entry's name, which must be no other's.
func (p *problems) name(at, name string, seen map[string]string) {
	here := child(at, "name")
	if !p.given(here, name, "a name, for logs and metrics") {
		return
	}
	if !plainName.MatchString(name) {
		p.bad(here, name, "cannot be a name: write up to 64 letters, digits, -, _ and .")
	} else if other, ok := seen[name]; ok {
		p.bad(here, name, "is the name of "+other+", too: choose another")
	} else {
		seen[name] = at
	}
}

// hostPort checks and splits host:port.
func (p *problems) hostPort(at, value, example string) (host string, ok bool) {
	host, port, err := net.SplitHostPort(value)
	switch {
	case err != nil || host == "" && at != "admin":
		p.bad(at, value, "is not host:port: write it like "+example)
	case !isPort(port):
		p.bad(at, value, "has no port from 1 to 65535: write it like "+example)
	case host != "" && !isHost(host):
		p.bad(at, value, "has no valid host: write a host name or an IP address, like "+example)
	default:
		return host, true
	}
	return "", false
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

func isHost(s string) bool {
	ip, err := netip.ParseAddr(s)
	return err == nil && ip.Zone() == "" || isHostName(s)
}

var (
	hostLabel = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
	digits    = regexp.MustCompile(`^[0-9]+$`)
)

// isHostName tells a host name (RFC 1123 section 2.1). One that ends in digits is a
// mistyped address.
func isHostName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if !hostLabel.MatchString(l) {
			return false
		}
	}
	return len(s) <= 253 && !digits.MatchString(labels[len(labels)-1])
}

func (p *problems) rpc(at, value string) {
	const fix = "write it like http://127.0.0.1:5060/RPC or fifo:/run/kamailio/kamailio_rpc.fifo"
	if path, ok := strings.CutPrefix(value, "fifo:"); ok {
		if !strings.HasPrefix(path, "/") {
			p.bad(at, value, "has no absolute path: "+fix)
		}
		return
	}
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" || !isHost(u.Hostname()) || !isPort(u.Port()) || u.Path == "" || u.User != nil {
		p.bad(at, value, "is not http://host:port/path: "+fix)
	} else if _, err := kamailio.NewRPC(value); err != nil {
		p.bad(at, value, "cannot be used: "+fix)
	}
}

// domains returns the domains of a list as presentities have them, nil for none.
func (p *problems) domains(at string, list []string) (out []string) {
	seen := make(map[string]string)
	for i, d := range list {
		here := entry(at, i)
		domain, ok := canonicalDomain(d)
		if !ok {
			p.bad(here, d, "is not a domain: write a host name or an IP address alone, such as example.com")
		} else if other, again := seen[domain]; again {
			p.bad(here, d, "is "+other+" again: remove one of them")
		} else {
			seen[domain] = here
			out = append(out, domain)
		}
	}
	return out
}

// canonicalDomain returns what Presentity.Domain returns for somebody in the domain.
func canonicalDomain(s string) (string, bool) {
	host := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && ip.Is6() && ip.Zone() == "":
		s = "[" + host + "]"
	case !isHost(s):
		return "", false
	}
	someone, err := busylamp.ParsePresentity("sip:someone@" + s)
	if err != nil {
		return "", false
	}
	return someone.Domain(), true
}

// admin checks the address of the HTTP interface, "" for none.
func (p *problems) admin(value string) string {
	if value == "" || value == "off" {
		return ""
	}
	host, ok := p.hostPort("admin", value, "127.0.0.1:9448, or off for no HTTP interface")
	if ip, err := netip.ParseAddr(host); ok && !strings.EqualFold(host, "localhost") && (err != nil || !ip.IsLoopback()) {
		p.bad("admin", value, "is not a loopback address, and for now no other is allowed: "+
			"write 127.0.0.1, ::1 or localhost for the host, or off for no HTTP interface")
	}
	return value
}

// maxDisplayName is the longest display name, in bytes.
const maxDisplayName = 128

// names returns the display names by canonical presentity, nil for none.
func (p *problems) names(list map[string]string) map[string]string {
	if len(list) == 0 {
		return nil
	}
	out, keys := make(map[string]string, len(list)), make(map[string]string, len(list))
	for _, key := range slices.Sorted(maps.Keys(list)) {
		at, name := child("names", key), list[key]
		if strings.TrimSpace(name) == "" {
			p.bad(at, name, "is no display name: write one, or remove the entry")
		} else if len(name) > maxDisplayName {
			p.bad(at, name, fmt.Sprintf("has %d bytes: shorten it to %d", len(name), maxDisplayName))
		}
		who, err := busylamp.ParsePresentity(key)
		if err != nil {
			p.add(at, fmt.Sprintf("the key is not the URI of a user: write it like sip:alice@example.com, in up to %d bytes", busylamp.MaxURI))
			continue
		}
		if other, again := keys[string(who)]; again {
			p.add(at, "is "+child("names", other)+" again: remove one of them")
		}
		keys[string(who)], out[string(who)] = key, name
	}
	return out
}
