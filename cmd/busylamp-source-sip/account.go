package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp/adapters/sipnet"
	"github.com/busylamp/busylamp/plugin"
)

// problems collects what is wrong with a configuration.
type problems []error

func (p *problems) add(key, format string, args ...any) {
	*p = append(*p, plugin.Errorf(key, format, args...))
}

// account reads an account; at is where its keys are.
func (p *problems) account(at string, s accountSettings) account {
	a := account{name: s.Name, username: s.Username, password: s.Password, domain: s.Domain}
	if !plainText(s.Name) {
		p.add(at+"name", "%.40q: write one short line", s.Name)
	}
	a.server = p.target(at+"server", s.Server, s.Transport, true)
	if s.Transport != "" && s.Transport != "udp" && s.Transport != "tcp" && s.Transport != "tls" {
		p.add(at+"transport", "%.40q is none: write udp, tcp or tls", s.Transport)
	}
	if s.Proxy != "" {
		a.proxy = p.target(at+"outbound_proxy", s.Proxy, s.Transport, false)
	}
	p.tls(at, s, &a)
	p.who(at, s, &a)
	p.credentials(at, s, &a)
	return a
}

// target reads a server. A host, with or without a port, is one by the transport.
func (p *problems) target(key, s, transport string, required bool) sipnet.Target {
	if s == "" {
		if required {
			p.add(key, "is missing: name the server to subscribe at: a host, ip:port, or sip:host:port;transport=udp|tcp|tls")
		}
		return sipnet.Target{}
	}
	uri := s
	if lower := strings.ToLower(s); !strings.HasPrefix(lower, "sip:") && !strings.HasPrefix(lower, "sips:") {
		if ip, err := netip.ParseAddr(s); err == nil && ip.Is6() {
			s = "[" + s + "]"
		}
		uri = "sip:" + s
	}
	if !strings.Contains(uri, ";") && transport != "" && strings.HasPrefix(uri, "sip:") {
		uri += ";transport=" + transport
	}
	t, err := sipnet.ParseTarget(uri)
	if err != nil {
		p.add(key, "%v; or a host, or ip:port", err)
	}
	return t
}

// tls reads the files of TLS by loading them.
func (p *problems) tls(at string, s accountSettings, a *account) {
	first := a.server
	if a.proxy != (sipnet.Target{}) {
		first = a.proxy
	}
	a.tls = sipnet.TLS{CAFile: s.TLS.CAFile, CertFile: s.TLS.CertFile, KeyFile: s.TLS.KeyFile, ServerName: s.TLS.ServerName}
	switch {
	case first.Transport == "tls":
		a.tls.SkipVerify = s.TLS.Verify != nil && !*s.TLS.Verify
		c, err := sipnet.New(sipnet.Config{Server: first, TLS: a.tls})
		if err != nil {
			p.add(at+"tls", "%v", err)
			return
		}
		c.Close()
	case a.tls != (sipnet.TLS{}):
		p.add(at+"tls", "the server is not by TLS: write transport: tls, or remove this section")
	}
}

// who reads who we are.
func (p *problems) who(at string, s accountSettings, a *account) {
	uri := s.URI
	switch {
	case uri == "":
		p.add(at+"uri", "is missing: say who we are, as sip:busylamp@example.com")
		return
	case !strings.HasPrefix(uri, "sip:") && !strings.HasPrefix(uri, "sips:"):
		uri = "sip:" + uri
	}
	if _, err := a.uriOf(uri); err != nil || sip.ParseUri(uri, &a.uri) != nil {
		p.add(at+"uri", "%.80q is no SIP address: write one as sip:busylamp@example.com", s.URI)
		return
	}
	a.domain = cmp.Or(a.domain, a.uri.Host)
	if _, err := sipnet.ParseTarget("sip:" + a.domain); err != nil {
		p.add(at+"domain", "%.80q is no host name or address: write it as example.com", s.Domain)
	}
	if a.password != "" || s.PasswordFile != "" {
		a.username = cmp.Or(a.username, a.uri.User)
	}
}

// Bounds of credentials, in bytes.
const (
	maxName     = 255
	maxPassword = 4096
)

// credentials reads the password's file. No error has the password, nor a password_file that
// is no file's name: it may be the password under the wrong key.
func (p *problems) credentials(at string, s accountSettings, a *account) {
	switch {
	case s.Password != "" && s.PasswordFile != "":
		p.add(at+"password_file", "password is given, too: remove one of them")
		return
	case s.PasswordFile != "":
		password, err := readPassword(s.PasswordFile)
		if err != nil {
			p.add(at+"password_file", "%v", err)
		}
		a.password = password
	case s.Username != "" && s.Password == "":
		p.add(at+"username", "has no password: give password_file, or password")
	}
	if len(a.username) > maxName || strings.ContainsFunc(a.username, unicode.IsControl) {
		p.add(at+"username", "has control characters or over %d bytes: write plain text", maxName)
	}
	if len(a.password) > maxPassword || strings.ContainsFunc(a.password, unicode.IsControl) || !utf8.ValidString(a.password) {
		p.add(at+"password", "has control characters, is no UTF-8, or is over %d bytes: write plain text on one line", maxPassword)
	}
}

// readPassword reads a file with a password alone.
func readPassword(path string) (string, error) {
	const fix = "name the file that holds the password and nothing else, readable by busylamp's user"
	info, err := os.Stat(path)
	switch {
	case err != nil:
		if e := (*os.PathError)(nil); errors.As(err, &e) {
			err = e.Err
		}
		return "", fmt.Errorf("(hidden) cannot be read: %w: %s", err, fix)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%q is no regular file: %s", path, fix)
	case info.Mode().Perm()&0o004 != 0:
		return "", fmt.Errorf("%q can be read by everybody: chmod o-r %s", path, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, fix)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPassword+3))
	if err != nil {
		return "", fmt.Errorf("%q: %w: %s", path, err, fix)
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if password == "" || len(password) > maxPassword || !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl) {
		return "", fmt.Errorf("%q is empty, has more lines than one, control characters or over %d bytes: write the password alone into it", path, maxPassword)
	}
	return password, nil
}

// serverRoute names the server to an outbound proxy, which need not know it: a loose route (RFC
// 3261 section 16.12), so that the Request-URI stays the presentity.
func (a *account) serverRoute() *sip.RouteHeader {
	uri := sip.Uri{Scheme: "sip", Host: a.server.Host, Port: a.server.Port}
	if ip, err := netip.ParseAddr(a.server.Host); err == nil && ip.Is6() {
		uri.Host = strings.TrimSuffix(net.JoinHostPort(a.server.Host, ""), ":")
	}
	uri.UriParams.Add("lr", "")
	uri.UriParams.Add("transport", a.server.Transport)
	return &sip.RouteHeader{Address: uri}
}

// plainText returns whether a text may stand in a header.
func plainText(s string) bool {
	return len(s) <= 255 && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
