package sipnet

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

const day = 24 * time.Hour

// tlsClient returns a client over TLS to an address that trusts an authority.
func tlsClient(t testing.TB, addr string, a *authority, pace tempo, change ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{Server: targetOf(t, "sip:"+addr+";transport=tls"), TLS: TLS{CAFile: a.file}}
	for _, f := range change {
		f(&cfg)
	}
	return clientOf(t, cfg, pace)
}

// TestTLS: by IPv4 and IPv6, verified by the address or a name, at TLS 1.2 and 1.3.
func TestTLS(t *testing.T) {
	a := newAuthority(t, "authority")
	for name, tc := range map[string]struct {
		addr, cert, server string
		max                uint16
	}{
		"IPv4":    {"127.0.0.1:0", "127.0.0.1", "", 0},
		"IPv6":    {"[::1]:0", "::1", "", 0},
		"name":    {"127.0.0.1:0", "presence.test", "presence.test", 0},
		"TLS 1.2": {"127.0.0.1:0", "127.0.0.1", "", tls.VersionTLS12},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sni atomic.Value
			ends := a.issue(t, tc.cert, 90*day)
			cfg := &tls.Config{Certificates: []tls.Certificate{ends}, MaxVersion: tc.max, GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
				sni.Store(h.ServerName)
				return nil, nil
			}}
			srv := siptest.NewTLS(t, tc.addr, cfg, accept("t1"))
			c := tlsClient(t, srv.Addr(), a, normal, func(cfg *Config) { cfg.TLS.ServerName = tc.server })
			begin(t, c, srv, 50)()
			if n := srv.Connections(); n != 1 {
				t.Errorf("%d connections", n)
			}
			if got := sni.Load(); got != tc.server {
				t.Errorf("asked for %q by SNI", got)
			}
			r := srv.All()[0]
			if via := "SIP/2.0/TLS " + r.From + ";branch="; !strings.HasPrefix(r.Header("Via"), via) || !strings.HasSuffix(r.Header("Via"), ";rport;alias") {
				t.Errorf("Via %s", r.Header("Via"))
			}
			if contact := "<sip:alice@" + r.From + ";transport=tls>"; r.Header("Contact") != contact {
				t.Errorf("Contact %s, want %s", r.Header("Contact"), contact)
			}
			leaf, err := x509.ParseCertificate(ends.Certificate[0])
			if s := c.Status(); err != nil || !s.ServerCertificate.Equal(leaf.NotAfter) || !s.Certificate.IsZero() || s.Hops[0].Transport != "tls" {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}

// TestTLSRefused: a server that is not who it should be hears nothing of us.
func TestTLSRefused(t *testing.T) {
	a, other := newAuthority(t, "authority"), newAuthority(t, "other")
	for name, tc := range map[string]struct {
		cert   tls.Certificate
		cfg    TLS
		max    uint16
		reason string
	}{
		"wrong name":        {a.issue(t, "other.test", day), TLS{CAFile: a.file}, 0, "certificate of other.test: not for the name 127.0.0.1: set tls.server_name"},
		"wrong server_name": {a.issue(t, "127.0.0.1", day), TLS{CAFile: a.file, ServerName: "presence.test"}, 0, "certificate of 127.0.0.1: not for the name presence.test"},
		"expired":           {a.issue(t, "127.0.0.1", -time.Hour), TLS{CAFile: a.file}, 0, "certificate of 127.0.0.1: expired on " + time.Now().Add(-time.Hour).UTC().Format("2006-01-02T")},
		"unknown authority": {other.issue(t, "127.0.0.1", day), TLS{CAFile: a.file}, 0, "certificate of 127.0.0.1: signed by an unknown authority: set tls.ca_file"},
		"the system's":      {a.issue(t, "127.0.0.1", day), TLS{}, 0, "signed by an unknown authority: set tls.ca_file"},
		"TLS 1.1":           {a.issue(t, "127.0.0.1", day), TLS{CAFile: a.file}, tls.VersionTLS11, "the server ended it: tls: protocol version not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := siptest.NewTLS(t, "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{tc.cert}, MinVersion: tls.VersionTLS10, MaxVersion: tc.max}, accept("t1"))
			c := tlsClient(t, srv.Addr(), a, normal, func(cfg *Config) { cfg.TLS = tc.cfg })
			if _, err := send(c, patience); err == nil || !strings.Contains(err.Error(), tc.reason) || !strings.Contains(err.Error(), srv.Addr()) {
				t.Errorf("%v\nwant %s", err, tc.reason)
			}
			if n := len(srv.All()); n != 0 {
				t.Errorf("%d requests", n)
			}
			if tc.max == 0 {
				cfg := tc.cfg
				cfg.SkipVerify = true
				accepted(t, tlsClient(t, srv.Addr(), a, normal, func(c *Config) { c.TLS = cfg }))
			}
		})
	}
}

// TestTLSName: RFC 5922, the certificate is the name's that was asked for, not that of
// SRV's target, which anybody between us and DNS may choose.
func TestTLSName(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "authority")
	for _, name := range []string{"presence.test", "h127-0-0-1.test"} {
		server := siptest.NewTLS(t, "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{a.issue(t, name, day)}}, accept("t1"))
		_, port, _ := net.SplitHostPort(server.Addr())
		z := newZone(t, "_sips._tcp.presence.test. 0 IN SRV 0 0 "+port+" h127-0-0-1.test.", "h127-0-0-1.test. 0 IN A 127.0.0.1")
		_, err := send(z.client(t, "tls", normal, func(c *Config) { c.TLS.CAFile = a.file }), patience)
		if good := name == "presence.test"; (err == nil) != good || !good && !strings.Contains(err.Error(), "not for the name presence.test") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMutualTLS with a right certificate, a stranger's, an expired one and none.
func TestMutualTLS(t *testing.T) {
	a, other := newAuthority(t, "authority"), newAuthority(t, "other")
	for name, tc := range map[string]struct {
		cert   *tls.Certificate
		reason []string // any of them
	}{
		"right":           {new(a.issue(t, "busylamp.test", day)), nil},
		"other authority": {new(other.issue(t, "busylamp.test", day)), []string{"the server refused our certificate FILE (tls: unknown certificate authority)", "the server refused our certificate FILE (tls: bad certificate)"}},
		"expired":         {new(a.issue(t, "busylamp.test", -time.Hour)), []string{"the server refused our certificate FILE (tls: expired certificate)", "the server refused our certificate FILE (tls: bad certificate)"}},
		"none":            {nil, []string{"the server wants a certificate of ours (tls: certificate required): set tls.cert_file", "the server wants a certificate of ours (tls: handshake failure): set tls.cert_file"}},
	} {
		for version, max := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
			t.Run(name+"/"+version, func(t *testing.T) {
				t.Parallel()
				srv := siptest.NewTLS(t, "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{a.issue(t, "127.0.0.1", day)},
					ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool(), MaxVersion: max}, accept("t1"))
				var file string
				c := tlsClient(t, srv.Addr(), a, normal, func(c *Config) {
					if tc.cert != nil {
						c.TLS.CertFile, c.TLS.KeyFile = store(t, t.TempDir(), *tc.cert)
						file = c.TLS.CertFile
					}
				})
				_, err := send(c, patience)
				good := err == nil && len(tc.reason) == 0
				for _, r := range tc.reason {
					good = good || err != nil && strings.Contains(err.Error(), strings.Replace(r, "FILE", file, 1))
				}
				if !good {
					t.Errorf("%v\nwant %v", err, tc.reason)
				}
				if err == nil && c.Status().Certificate.IsZero() {
					t.Errorf("%+v", c.Status())
				}
			})
		}
	}
}

// TestReplacedCertificate: put on disk while connected, it is used by further requests; what
// cannot be used is not, and is told of once.
func TestReplacedCertificate(t *testing.T) {
	t.Parallel()
	a, next := newAuthority(t, "authority"), newAuthority(t, "next")
	var wants atomic.Pointer[authority]
	wants.Store(a)
	own := a.issue(t, "127.0.0.1", day)
	hold := make(chan struct{})
	srv := siptest.NewTLS(t, "127.0.0.1:0", &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: wants.Load().pool()}, nil
	}}, func(r siptest.Request) {
		if r.Header("Subject") != "" {
			<-hold
		}
		r.Accept("t1")
	})
	dir, log := t.TempDir(), &logged{}
	pace := quick()
	pace.certAge, pace.silence, pace.streamSilence = 20*time.Millisecond, patience, patience
	c := tlsClient(t, srv.Addr(), a, pace, log.to(), func(c *Config) { c.TLS.CertFile, c.TLS.KeyFile = store(t, dir, a.issue(t, "busylamp.test", day)) })
	accepted(t, c)
	release := sync.OnceFunc(func() { close(hold) })
	t.Cleanup(release)
	under := make(chan error, 1)
	go func() {
		_, err := c.Do(t.Context(), message(10))
		under <- err
	}()
	eventually(t, "a request is under way", func() bool { return len(srv.All()) == 2 })

	old := pathTo(c)
	for range 2 { // what cannot be used
		file := filepath.Join(dir, "cert.pem") // put there whole: half of it would be told of, too
		if err := errors.Join(os.WriteFile(file+".new", []byte("nonsense"), 0o600), os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is noticed", func() bool { return log.count("cannot be used; the old ones stay in use") == 1 })
		time.Sleep(3 * pace.certAge)
	}
	if log.count("cannot be used") != 1 || log.count("cert.pem") == 0 {
		t.Errorf("log:\n%s", log)
	}
	if !old.usable() {
		t.Error("a certificate that cannot be used took the connection from us")
	}

	wants.Store(next)
	store(t, dir, next.issue(t, "busylamp.test", 2*day))
	eventually(t, "the new one is noticed", func() bool { return !old.usable() })
	accepted(t, c)
	if pathTo(c) == old || srv.Connections() != 2 {
		t.Errorf("%d connections", srv.Connections())
	}
	release()
	if err := <-under; err != nil {
		t.Errorf("the request under way: %v", err)
	}
	eventually(t, "the old connection has ended", func() bool { return old.life.Err() != nil })
	accepted(t, c)
	if n := srv.Connections(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// TestReplacedBeforeConnecting: what is found changed at the handshake is used for it.
func TestReplacedBeforeConnecting(t *testing.T) {
	t.Parallel()
	a, dir := newAuthority(t, "authority"), t.TempDir()
	srv := siptest.NewTLS(t, "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{a.issue(t, "127.0.0.1", day)},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool()}, accept("t1"))
	c := tlsClient(t, srv.Addr(), a, normal, func(c *Config) {
		c.TLS.CertFile, c.TLS.KeyFile = store(t, dir, newAuthority(t, "other").issue(t, "busylamp.test", day))
	})
	store(t, dir, a.issue(t, "busylamp.test", day))
	accepted(t, c)
	accepted(t, c)
	if n := srv.Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestCertificateFiles: New says which file is at fault, and what would mend it.
func TestCertificateFiles(t *testing.T) {
	a, dir := newAuthority(t, "authority"), t.TempDir()
	cert, key := store(t, dir, a.issue(t, "busylamp.test", day))
	_, other := store(t, t.TempDir(), a.issue(t, "busylamp.test", day))
	file := func(name, kind string) string {
		name = filepath.Join(dir, name)
		write(t, name, kind, []byte("x"))
		return name
	}
	encrypted, old := file("encrypted.pem", "ENCRYPTED PRIVATE KEY"), filepath.Join(dir, "old.pem")
	if err := os.WriteFile(old, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}}), 0o600); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large.pem")
	if err := os.WriteFile(large, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		cfg  TLS
		want string
	}{
		{TLS{CAFile: "/nowhere/ca.pem"}, "tls.ca_file: open /nowhere/ca.pem: no such file"},
		{TLS{CAFile: key}, "tls.ca_file " + key + ": no certificate in it"},
		{TLS{CAFile: large}, "tls.ca_file: " + large + ": over"},
		{TLS{CertFile: cert}, "one is missing: give both"},
		{TLS{KeyFile: key}, "one is missing: give both"},
		{TLS{CertFile: "/nowhere/c.pem", KeyFile: key}, "tls.cert_file: open /nowhere/c.pem: no such file"},
		{TLS{CertFile: cert, KeyFile: dir}, "tls.key_file: read " + dir + ": is a directory"},
		{TLS{CertFile: cert, KeyFile: other}, "tls.cert_file " + cert + " with tls.key_file " + other + ": private key does not match public key"},
		{TLS{CertFile: key, KeyFile: key}, "tls.cert_file " + key},
		{TLS{CertFile: cert, KeyFile: encrypted}, "tls.key_file " + encrypted + ": the key is encrypted: decrypt it"},
		{TLS{CertFile: cert, KeyFile: old}, "tls.key_file " + old + ": the key is encrypted: decrypt it"},
		{TLS{CertFile: cert, KeyFile: file("bad.pem", "PRIVATE KEY")}, "bad.pem"},
	} {
		c, err := New(Config{Server: targetOf(t, "sips:presence.test"), TLS: tc.cfg})
		if err == nil {
			c.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %s", tc.cfg, err, tc.want)
		}
	}
}

// TestExpiryWarnings: from 14 days before, once a day, of our certificate and the server's.
func TestExpiryWarnings(t *testing.T) {
	t.Parallel()
	a, log := newAuthority(t, "authority"), &logged{}
	srv := siptest.NewTLS(t, "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{a.issue(t, "127.0.0.1", 13*day)}}, accept("t1"))
	c := tlsClient(t, srv.Addr(), a, normal, log.to(), func(c *Config) {
		c.TLS.CertFile, c.TLS.KeyFile = store(t, t.TempDir(), a.issue(t, "busylamp.test", 13*day))
	})
	accepted(t, c)
	c.tls.refresh()
	for whose, name := range map[string]string{"our own": "busylamp.test", "the server's": "127.0.0.1"} {
		if n := log.count(`msg="a certificate expires soon: renew it" whose="` + whose + `" certificate=` + name); n != 1 {
			t.Errorf("%d warnings of %s:\n%s", n, whose, log)
		}
	}
	now := time.Now()
	for _, tc := range []struct {
		after time.Duration
		lines int
	}{{23 * time.Hour, 2}, {25 * time.Hour, 4}, {14 * day, 6}, {14*day + time.Hour, 6}} {
		c.tls.mu.Lock()
		c.tls.warn(now.Add(tc.after))
		c.tls.mu.Unlock()
		if n := log.count("whose="); n != tc.lines {
			t.Errorf("after %v: %d warnings, want %d", tc.after, n, tc.lines)
		}
	}
	if log.count("a certificate has expired: renew it") != 2 {
		t.Errorf("log:\n%s", log)
	}
	c.tls.server = expiry{now.Add(15 * day), "far"}
	c.tls.papers.cert = nil
	c.tls.warned = map[string]time.Time{}
	c.tls.warn(now)
	if log.count("far") != 0 {
		t.Error("warned 15 days before")
	}
}

// TestTLSClose: a handshake that never ends holds up neither a request's end nor Close.
func TestTLSClose(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := newAuthority(t, "authority")
	c := tlsClient(t, l.Addr().String(), a, normal)
	finish(t, normal.connTimeout/2, func() {
		if _, err := send(c, 100*time.Millisecond); err == nil || !strings.Contains(err.Error(), "so far") {
			t.Error(err)
		}
	})
	ended := make(chan error)
	go func() {
		_, err := send(c, patience)
		ended <- err
	}()
	eventually(t, "it connects", func() bool {
		p := pathTo(c)
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.watch.waiting > 0
	})
	finish(t, normal.connTimeout/2, func() {
		c.Close()
		<-ended
	})
	finish(t, patience, func() {
		c := tlsClient(t, l.Addr().String(), a, quick())
		if _, err := send(c, patience); err == nil || !strings.Contains(err.Error(), "does the server speak TLS at this port?") {
			t.Error(err)
		}
	})
}
