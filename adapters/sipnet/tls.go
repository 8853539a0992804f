package sipnet

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// TLS says how a connection is secured. Files are in PEM, and read again when they change.
type TLS struct {
	CAFile     string // who may vouch for the server; "" for the system's authorities
	CertFile   string // our own certificate with its chain, for mutual TLS; "" for none
	KeyFile    string // its key
	ServerName string // the name to verify and to ask for (SNI); "" for the target's own
	SkipVerify bool   // accept any certificate: for tests alone
}

// maxFile bounds a file of certificates, in bytes.
const maxFile = 4 << 20

// identity is who we are to a server and whom we take it for: what is in the files of a
// [TLS], and the certificate that the server showed last.
type identity struct {
	cfg     TLS
	name    string // the server's
	log     *slog.Logger
	asked   atomic.Bool   // for our certificate, in the last handshake
	edition atomic.Uint64 // rises when the files change to something else that can be used

	mu     sync.Mutex
	papers *papers
	seen   [sha256.Size]byte // of the files, when last looked at
	server expiry            // of the last handshake
	warned map[string]time.Time
}

// papers are what is in the files.
type papers struct {
	roots *x509.CertPool   // nil: the system's
	cert  *tls.Certificate // nil: none
}

// newIdentity reads the files. An error names the file at fault and the fix.
func newIdentity(cfg TLS, target Target, log *slog.Logger) (*identity, error) {
	if (cfg.CertFile == "") != (cfg.KeyFile == "") {
		return nil, fmt.Errorf("tls.cert_file %q and tls.key_file %q: one is missing: give both, or neither", cfg.CertFile, cfg.KeyFile)
	}
	// RFC 5922 section 7.2: whom we meant to reach counts, not where SRV sent us.
	id := &identity{cfg: cfg, name: cmp.Or(cfg.ServerName, strings.TrimSuffix(target.Host, ".")), log: log, warned: map[string]time.Time{}}
	var err error
	id.papers, id.seen, err = cfg.load()
	return id, err
}

// load reads all files. The sum tells whether they have changed since, also where they
// cannot be used.
func (t TLS) load() (*papers, [sha256.Size]byte, error) {
	sum := sha256.New()
	read := func(key, name string) ([]byte, error) {
		b, err := readFile(name)
		fmt.Fprintf(sum, "%d %v\n", len(b), err)
		sum.Write(b)
		if err != nil {
			return nil, fmt.Errorf("tls.%s: %w", key, err)
		}
		return b, nil
	}
	ca, err := read("ca_file", t.CAFile)
	cert, certErr := read("cert_file", t.CertFile)
	key, keyErr := read("key_file", t.KeyFile)
	seen := [sha256.Size]byte(sum.Sum(nil))
	if err = cmp.Or(err, certErr, keyErr); err != nil {
		return nil, seen, err
	}
	p := &papers{}
	if t.CAFile != "" {
		p.roots = x509.NewCertPool()
		if !p.roots.AppendCertsFromPEM(ca) {
			return nil, seen, fmt.Errorf("tls.ca_file %s: no certificate in it: give one or more in PEM (BEGIN CERTIFICATE)", t.CAFile)
		}
	}
	if t.CertFile != "" {
		p.cert, err = t.pair(cert, key)
	}
	return p, seen, err
}

// readFile reads a file up to the limit, and nothing for no name.
func readFile(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s: over %d bytes: give the certificates alone", name, maxFile)
	}
	return b, err
}

// pair is our certificate with its key.
func (t TLS) pair(cert, key []byte) (*tls.Certificate, error) {
	for rest := key; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return nil, fmt.Errorf("tls.key_file %s: the key is encrypted: decrypt it (openssl pkey -in OLD -out NEW) and keep the file from others", t.KeyFile)
		}
	}
	c, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("tls.cert_file %s with tls.key_file %s: %w: give a certificate and its own key, both in PEM", t.CertFile, t.KeyFile,
			errors.New(strings.TrimPrefix(err.Error(), "tls: ")))
	}
	return &c, nil
}

// refresh looks at the files again and returns the edition that is good now. What cannot
// be used leaves the old in use, and is told of once per change.
func (id *identity) refresh() uint64 {
	next, seen, err := id.cfg.load()
	id.mu.Lock()
	defer id.mu.Unlock()
	switch {
	case seen == id.seen:
	case err != nil:
		id.log.Error("certificates have changed, but cannot be used; the old ones stay in use", "server", id.name, "error", err)
	default:
		id.papers = next
		id.edition.Add(1)
		id.log.Info("certificates have changed; new connections use them", "server", id.name)
	}
	id.seen = seen
	id.warn(time.Now())
	return id.edition.Load()
}

// watch looks at the files after every pause until ctx ends.
func (id *identity) watch(ctx context.Context, pause time.Duration) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			id.refresh()
		case <-ctx.Done():
			return
		}
	}
}

// handshake secures a connection. The error says whose certificate is at fault, and why.
func (id *identity) handshake(ctx context.Context, raw net.Conn) (net.Conn, error) {
	id.mu.Lock()
	p := id.papers
	id.mu.Unlock()
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         id.name,
		RootCAs:            p.roots,
		InsecureSkipVerify: id.cfg.SkipVerify,
		// Ours, whomever the server says that it trusts: its refusal tells more than none.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			id.asked.Store(true)
			return cmp.Or(p.cert, &tls.Certificate{}), nil
		},
	}
	id.asked.Store(false)
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			err = errors.New("the handshake has not ended in time: does the server speak TLS at this port?")
		}
		return nil, id.explain(err, false)
	}
	id.met(conn.ConnectionState())
	return conn, nil
}
