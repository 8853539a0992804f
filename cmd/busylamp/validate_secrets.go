package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/busylamp/busylamp/adapters/sipnet"
)

// Bounds of what is read from files, in bytes.
const (
	maxPassword = 4 << 10
	maxPEM      = 1 << 20
)

// credentials checks the user name and the password, and reads the password's file. A
// password is in no error, and neither is a password_file that is no file's name: it may
// be the password itself, under the wrong key.
func (p *problems) credentials(at string, pub *publisherConfig) {
	user, password, file := child(at, "username"), child(at, "password"), child(at, "password_file")
	switch {
	case pub.Password != "" && pub.PasswordFile != "":
		p.add(file, "password is given, too: remove one of them")
		return
	case pub.PasswordFile != "":
		p.passwordFile(file, pub)
	case pub.Username != "" && pub.Password == "" && !p.wrong[password] && !p.wrong[file]:
		p.add(user, "has no password: give password_file, or password")
	case len(pub.Password) > maxPassword:
		p.add(password, fmt.Sprintf("has %d bytes: %d are possible", len(pub.Password), maxPassword))
	}
	switch {
	case pub.Username == "" && pub.PasswordFile != "":
		p.add(file, "there is no username: give it, too, or remove this key")
	case pub.Username == "" && pub.Password != "":
		p.add(password, "there is no username: give it, too, or remove this key")
	case len(pub.Username) > maxUsername:
		p.bad(user, pub.Username, fmt.Sprintf("has %d bytes: %d are possible", len(pub.Username), maxUsername))
	}
}

// passwordFile reads the password. Whoever else can log in must not be able to.
func (p *problems) passwordFile(at string, pub *publisherConfig) {
	path := pub.PasswordFile
	const fix = ": name the file that holds the password and nothing else, readable by busylamp's user"
	info, err := os.Stat(path)
	if err != nil {
		p.add(at, hidden+" cannot be read: "+reason(err)+fix)
		return
	}
	text, err := readBounded(path, maxPassword)
	switch {
	case err != nil:
		p.add(at, quote(path)+" cannot be read: "+reason(err)+fix)
		return
	case info.Mode().Perm()&0o004 != 0:
		p.add(at, quote(path)+" can be read by everybody: chmod o-r "+path)
		return
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	switch {
	case password == "":
		p.add(at, quote(path)+" is empty: write the password into it")
	case !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl):
		p.add(at, quote(path)+" has control characters, more lines than one, or is no UTF-8: write the password alone into it")
	}
	pub.Password = secret(password)
}

// tls checks the files of a publisher's TLS, by loading them.
func (p *problems) tls(above string, pub publisherConfig) {
	at, c := child(above, "tls"), pub.TLS
	hop, err := sipnet.ParseTarget(pub.firstHop())
	switch {
	case c == defaultPublisher().TLS:
		return
	case err == nil && hop.Transport != "tls":
		key := "server"
		if pub.OutboundProxy != "" {
			key = "outbound_proxy"
		}
		p.add(at, fmt.Sprintf("%s %s is not by TLS: write ;transport=tls at its end, or remove this section", key, quote(pub.firstHop())))
		return
	}
	if c.CAFile != "" {
		p.caFile(child(at, "ca_file"), c.CAFile)
	}
	cert, key := child(at, "cert_file"), child(at, "key_file")
	switch {
	case c.CertFile != "" && c.KeyFile == "":
		p.add(cert, "key_file is missing: give the file with this certificate's key, too")
	case c.KeyFile != "" && c.CertFile == "":
		p.add(key, "cert_file is missing: give the file with this key's certificate, too")
	case c.CertFile != "":
		p.keyPair(cert, key, c)
	}
	if c.ServerName != "" && !isHost(c.ServerName) {
		p.bad(child(at, "server_name"), c.ServerName, "is neither a host name nor an IP address: write it like presence.example.com")
	}
}

func (p *problems) caFile(at, path string) {
	const fix = ": name a file with the certificates, in PEM, of those who may vouch for the server"
	text, err := readBounded(path, maxPEM)
	if err != nil {
		p.add(at, quote(path)+" cannot be read: "+reason(err)+fix)
	} else if !x509.NewCertPool().AppendCertsFromPEM(text) {
		p.add(at, quote(path)+" holds no certificate in PEM"+fix)
	}
}

func (p *problems) keyPair(certAt, keyAt string, c tlsConfig) {
	if !p.pemFile(certAt, c.CertFile) || !p.pemFile(keyAt, c.KeyFile) {
		return
	}
	if _, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile); err != nil {
		p.add(certAt, fmt.Sprintf("%s does not go with key_file %s: %s: name a certificate and its own key",
			quote(c.CertFile), quote(c.KeyFile), bare(strings.TrimPrefix(err.Error(), "tls: "))))
	}
}

// pemFile tells whether a file is in PEM and in the clear.
func (p *problems) pemFile(at, path string) bool {
	text, err := readBounded(path, maxPEM)
	switch block, _ := pem.Decode(text); {
	case err != nil:
		p.add(at, quote(path)+" cannot be read: "+reason(err)+": name a file in PEM that busylamp's user may read")
	case block == nil:
		p.add(at, quote(path)+" is not in PEM: convert it with openssl")
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
		p.add(at, quote(path)+" is encrypted: decrypt it with openssl pkey, and let nobody else read it")
	default:
		return true
	}
	return false
}

// readBounded reads a file of up to so many bytes. It must be a regular one: a pipe could
// be waited for without end, and is empty when the file is read again.
func readBounded(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		return nil, fmt.Errorf("larger than %d kB", most>>10)
	}
	return text, err
}

// reason is an error of a file's without the path, which is told anyway.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return err.Error()
}
