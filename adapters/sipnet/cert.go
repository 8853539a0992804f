package sipnet

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// expiryWarning is how long before a certificate's end it is warned of, once a day.
const expiryWarning = 14 * 24 * time.Hour

// expiry is when a chain of certificates ceases to be good, and by which of them.
type expiry struct {
	at   time.Time // zero: there is none
	name string    // the certificate's
}

// earliest is the end of a chain.
func earliest(chain []*x509.Certificate) (e expiry) {
	for _, c := range chain {
		if e.at.IsZero() || c.NotAfter.Before(e.at) {
			e = expiry{c.NotAfter, nameOf(c)}
		}
	}
	return e
}

// nameOf is what people know a certificate by. Whoever made it chose that.
func nameOf(c *x509.Certificate) string {
	name := c.Subject.String()
	switch {
	case len(c.DNSNames) > 0:
		name = c.DNSNames[0]
	case len(c.IPAddresses) > 0:
		name = c.IPAddresses[0].String()
	}
	return strings.ToValidUTF8(name[:min(len(name), 253)], "?")
}

// met notes the certificate that the server showed. Of several chains the one that lasts
// longest counts, for any will do.
func (id *identity) met(state tls.ConnectionState) {
	chains := state.VerifiedChains
	if len(chains) == 0 {
		chains = [][]*x509.Certificate{state.PeerCertificates} // not verified
	}
	var server expiry
	for _, chain := range chains {
		if e := earliest(chain); e.at.After(server.at) {
			server = e
		}
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	id.server = server
	id.warn(time.Now())
}

// expiries returns when our own certificate and the server's end.
func (id *identity) expiries() (own, server time.Time) {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.own().at, id.server.at
}

// own is our own certificate's expiry; id.mu is held.
func (id *identity) own() expiry {
	if id.papers.cert == nil {
		return expiry{}
	}
	var chain []*x509.Certificate
	for _, der := range id.papers.cert.Certificate {
		if c, err := x509.ParseCertificate(der); err == nil {
			chain = append(chain, c)
		}
	}
	return earliest(chain)
}

// warn tells of certificates that end soon, of each once a day; id.mu is held.
func (id *identity) warn(now time.Time) {
	for whose, e := range map[string]expiry{"our own": id.own(), "the server's": id.server} {
		if e.at.IsZero() || e.at.Sub(now) > expiryWarning || now.Sub(id.warned[whose]) < 24*time.Hour {
			continue
		}
		id.warned[whose] = now
		what := "a certificate expires soon: renew it"
		if now.After(e.at) {
			what = "a certificate has expired: renew it"
		}
		id.log.Warn(what, "whose", whose, "certificate", e.name, "server", id.name, "expires", e.at.UTC().Format(time.RFC3339))
	}
}

// refusals are the alerts (RFC 8446 section 6.2) by which a server refuses our certificate,
// as crypto/tls words them: its type for them is not exported.
var refusals = map[string]bool{
	"tls: bad certificate": true, "tls: unsupported certificate": true, "tls: revoked certificate": true,
	"tls: expired certificate": true, "tls: unknown certificate": true, "tls: unknown certificate authority": true,
	"tls: access denied": true, "tls: certificate required": true,
}

// explain says whose certificate an error of TLS is about, and what to do. A TLS 1.3 server
// refuses ours only after the handshake, so that it shows on the first read; bare says that
// a connection ended before anything was heard on it.
func (id *identity) explain(err error, bare bool) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		switch refused := refusals[op.Err.Error()]; {
		case id.cfg.CertFile == "" && (refused || id.asked.Load()):
			return fmt.Errorf("the server wants a certificate of ours (%w): set tls.cert_file and tls.key_file", op.Err)
		case !refused:
			return fmt.Errorf("the server ended it: %w", op.Err)
		default:
			return fmt.Errorf("the server refused our certificate %s (%w): give one in tls.cert_file that it trusts", id.cfg.CertFile, op.Err)
		}
	}
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return id.unverified(bad)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return errors.New("the server does not speak TLS at this port: check server's port and transport")
	}
	if err = cause(err); bare {
		return fmt.Errorf("%w before anything was heard; a server that refuses our certificate may do so", err)
	}
	return err
}

// unverified says what is wrong with the server's certificate.
func (id *identity) unverified(bad *tls.CertificateVerificationError) error {
	date := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](bad.Err); ok && invalid.Reason == x509.Expired {
		if time.Now().Before(invalid.Cert.NotBefore) {
			return fmt.Errorf("certificate of %s: not valid before %s (is our clock right?)", nameOf(invalid.Cert), date(invalid.Cert.NotBefore))
		}
		return fmt.Errorf("certificate of %s: expired on %s: renew it at the server", nameOf(invalid.Cert), date(invalid.Cert.NotAfter))
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](bad.Err); ok {
		return fmt.Errorf("certificate of %s: signed by an unknown authority: set tls.ca_file", id.name)
	}
	if host, ok := errors.AsType[x509.HostnameError](bad.Err); ok {
		return fmt.Errorf("certificate of %s: not for the name %s: set tls.server_name, or correct the server's", nameOf(host.Certificate), id.name)
	}
	return fmt.Errorf("certificate of %s: %w", id.name, bad.Err)
}
