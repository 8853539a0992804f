package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// keyFiles makes a directory of files that the keys of a publisher name. Of the two
// certificates, of 127.0.0.1, each vouches for itself, for an hour.
func keyFiles(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, mode os.FileMode, text string) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
	}
	for _, name := range []string{"own", "other"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true,
			BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour)}
		cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".crt", 0o644, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
		write(name+".key", 0o600, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	}
	write("encrypted.key", 0o600, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	write("password", 0o600, "hunter2 \n")
	write("crlf", 0o440, "hunter2\r\n")
	write("open", 0o604, "hunter2\n")
	write("empty", 0o600, "\n")
	write("two", 0o600, "hunter2\nhunter3\n")
	write("long", 0o600, strings.Repeat("hunter2", 1000))
	return dir
}

const byTLS = "server: sips:a\n    "

func TestLoadPublisher(t *testing.T) {
	dir := keyFiles(t)
	for _, tt := range []struct {
		name, keys string
		change     func(*publisherConfig)
	}{
		{"TLS", "server: sip:a;transport=TLS", func(p *publisherConfig) { p.Server = "sip:a;transport=TLS" }},
		{"sips", "server: sips:[::1]:5061", func(p *publisherConfig) { p.Server = "sips:[::1]:5061" }},
		{"sips and tcp", "server: sips:a;transport=tcp", func(p *publisherConfig) { p.Server = "sips:a;transport=tcp" }},
		{"a proxy", "outbound_proxy: sip:b;transport=tcp\n    server: sip:a", func(p *publisherConfig) {
			p.Server, p.OutboundProxy = "sip:a", "sip:b;transport=tcp"
		}},
		{"no proxy", "outbound_proxy: ''\n    server: sip:a", func(p *publisherConfig) { p.Server = "sip:a" }},
		{"a section of TLS", byTLS + "tls: {ca_file: DIR/own.crt, cert_file: DIR/own.crt, key_file: DIR/own.key, server_name: b.example, verify: off}",
			func(p *publisherConfig) {
				p.Server = "sips:a"
				p.TLS = tlsConfig{dir + "/own.crt", dir + "/own.crt", dir + "/own.key", "b.example", "off"}
			}},
		{"TLS to the proxy alone", "server: sip:a\n    outbound_proxy: sips:b\n    tls: {server_name: 192.0.2.1}", func(p *publisherConfig) {
			p.Server, p.OutboundProxy, p.TLS.ServerName = "sip:a", "sips:b", "192.0.2.1"
		}},
		{"verify: as YAML 1.1 means it", byTLS + "tls: {verify: false}", func(p *publisherConfig) { p.Server, p.TLS.Verify = "sips:a", "off" }},
		{"verify: true", byTLS + "tls: {verify: true}", func(p *publisherConfig) { p.Server = "sips:a" }},
		{"a section of TLS that says nothing", "server: sip:a\n    tls:", func(p *publisherConfig) { p.Server = "sip:a" }},
		{"a password", "server: sip:a\n    username: me\n    password: 'p@ss: \"w'", func(p *publisherConfig) {
			p.Server, p.Username, p.Password = "sip:a", "me", `p@ss: "w`
		}},
		{"a password's file", "server: sip:a\n    username: me\n    password_file: DIR/password", func(p *publisherConfig) {
			p.Server, p.Username, p.Password, p.PasswordFile = "sip:a", "me", "hunter2 ", dir+"/password"
		}},
		{"a password's file with CRLF", "server: sip:a\n    username: me\n    password_file: DIR/crlf", func(p *publisherConfig) {
			p.Server, p.Username, p.Password, p.PasswordFile = "sip:a", "me", "hunter2", dir+"/crlf"
		}},
		{"the rest", "server: sip:a\n    user_agent: pbx/1 (x)\n    rate: 100000\n    initial_expires: 600s\n    sentinel: true", func(p *publisherConfig) {
			p.Server, p.UserAgent, p.Rate, p.InitialExpires, p.Sentinel = "sip:a", "pbx/1 (x)", 100000, 10*time.Minute, "on"
		}},
		{"a filter", "server: sip:a\n    filter: {domains: [EXAMPLE.com.], users: ['sips:%61lice@Example.com:5061;x=y'], match: ['^sip:1\\d{1,2}@'], except: [a, b]}",
			func(p *publisherConfig) {
				p.Server = "sip:a"
				p.Filter = filterConfig{[]string{"example.com"}, []string{"sip:alice@example.com"}, []string{`^sip:1\d{1,2}@`}, []string{"a", "b"}}
			}},
		{"a filter that says nothing", "server: sip:a\n    filter: {domains: [], users: [], match: , except: []}", func(p *publisherConfig) { p.Server = "sip:a" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := smallConfig()
			tt.change(&want.Publishers[0])
			got, lines := loadText(t, publisher(strings.ReplaceAll(tt.keys, "DIR", dir)))
			wantLines(t, lines)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got\n%+v\nwant\n%+v", got, want)
			}
		})
	}
}

var many = strings.Repeat(",x", 1000)

var badPublishers = []struct{ name, keys, want string }{
	{"a proxy without scheme", "outbound_proxy: b\n    server: sip:a", `FILE:8: publishers[0].outbound_proxy: "b" is not sip:HOST[:PORT] or sips:HOST[:PORT]: ` + serverFix},

	// TLS.
	{"TLS without TLS", "server: sip:a\n    tls: {ca_file: DIR/own.crt}", `FILE:9: publishers[0].tls: server "sip:a" is not by TLS: write ;transport=tls at its end, or remove this section`},
	{"TLS, but not to the proxy", byTLS + "outbound_proxy: sip:b;transport=tcp\n    tls: {verify: off}", `FILE:10: publishers[0].tls: outbound_proxy "sip:b;transport=tcp" is not by TLS: write ;transport=tls at its end, or remove this section`},
	{"no CA file", byTLS + "tls: {ca_file: DIR/none}", `FILE:9: publishers[0].tls.ca_file: "DIR/none" cannot be read: no such file or directory: name a file with the certificates, in PEM, of those who may vouch for the server`},
	{"a CA file of keys", byTLS + "tls: {ca_file: DIR/own.key}", `FILE:9: publishers[0].tls.ca_file: "DIR/own.key" holds no certificate in PEM: name a file with the certificates, in PEM, of those who may vouch for the server`},
	{"no key", byTLS + "tls: {cert_file: DIR/own.crt}", "FILE:9: publishers[0].tls.cert_file: key_file is missing: give the file with this certificate's key, too"},
	{"no certificate", byTLS + "tls: {key_file: DIR/own.key}", "FILE:9: publishers[0].tls.key_file: cert_file is missing: give the file with this key's certificate, too"},
	{"another's key", byTLS + "tls:\n      cert_file: DIR/own.crt\n      key_file: DIR/other.key", `FILE:10: publishers[0].tls.cert_file: "DIR/own.crt" does not go with key_file "DIR/other.key": private key does not match public key: name a certificate and its own key`},
	{"an encrypted key", byTLS + "tls:\n      cert_file: DIR/own.crt\n      key_file: DIR/encrypted.key", `FILE:11: publishers[0].tls.key_file: "DIR/encrypted.key" is encrypted: decrypt it with openssl pkey, and let nobody else read it`},
	{"a key that is none", byTLS + "tls: {cert_file: DIR/own.crt, key_file: DIR/password}", `FILE:9: publishers[0].tls.key_file: "DIR/password" is not in PEM: convert it with openssl`},
	{"a key file that is none", byTLS + "tls: {cert_file: DIR/own.crt, key_file: DIR}", `FILE:9: publishers[0].tls.key_file: "DIR" cannot be read: not a regular file: name a file in PEM that busylamp's user may read`},
	{"the server's name", byTLS + "tls: {server_name: 'sip:b'}", `FILE:9: publishers[0].tls.server_name: "sip:b" is neither a host name nor an IP address: write it like presence.example.com`},
	{"verify", byTLS + "tls: {verify: none}", `FILE:9: publishers[0].tls.verify: "none" is not known: write on or off`},
	{"a misspelt key of TLS", byTLS + "tls: {cafile: x}", "FILE:9: publishers[0].tls.cafile: unknown key: did you mean ca_file?"},

	// Credentials.
	{"no password", "server: sip:a\n    username: me", "FILE:9: publishers[0].username: has no password: give password_file, or password"},
	{"no user for a password", "server: sip:a\n    password: hunter2", "FILE:9: publishers[0].password: there is no username: give it, too, or remove this key"},
	{"no user for a file", "server: sip:a\n    password_file: DIR/password", "FILE:9: publishers[0].password_file: there is no username: give it, too, or remove this key"},
	{"both passwords", "server: sip:a\n    username: me\n    password: hunter2\n    password_file: DIR/password", "FILE:11: publishers[0].password_file: password is given, too: remove one of them"},
	{"a long user", "server: sip:a\n    password: hunter2\n    username: " + strings.Repeat("m", 256), `FILE:10: publishers[0].username: "` + strings.Repeat("m", 80) + `"… has 256 bytes: 255 are possible`},
	{"a long password", "server: sip:a\n    username: me\n    password: " + strings.Repeat("hunter2", 1000), "FILE:10: publishers[0].password: has 7000 bytes: 4096 are possible"},
	{"a password of two lines", "server: sip:a\n    username: me\n    password: \"hunter2\\n\"", "FILE:10: publishers[0].password: (hidden) has control characters or is no UTF-8: write plain text on one line"},
	{"a password in digits", "server: sip:a\n    username: me\n    password: 20202", "FILE:10: publishers[0].password: (hidden) is a number: write text; in quotes it is (hidden)"},
	{"a password with a tag", "server: sip:a\n    username: me\n    password: !hunter2", "FILE:10: publishers[0].password: the tag (hidden) is not supported: write text; in quotes it is (hidden)"},
	{"a password with an asterisk", "server: sip:a\n    username: me\n    password: *hunter2", "FILE: not YAML: text that begins with * needs quotes: check the indentation, colons and quotes near there"},
	{"a password's key that is misspelt", "server: sip:a\n    passwort: hunter2", "FILE:9: publishers[0].passwort: unknown key: did you mean password?"},
	{"a password for a file's name", "server: sip:a\n    username: me\n    password_file: hunter2", "FILE:10: publishers[0].password_file: (hidden) cannot be read: no such file or directory: " + passwordFix},
	{"a directory", "server: sip:a\n    username: me\n    password_file: DIR", `FILE:10: publishers[0].password_file: "DIR" cannot be read: not a regular file: ` + passwordFix},
	{"an open file", "server: sip:a\n    username: me\n    password_file: DIR/open", `FILE:10: publishers[0].password_file: "DIR/open" can be read by everybody: chmod o-r DIR/open`},
	{"an empty file", "server: sip:a\n    username: me\n    password_file: DIR/empty", `FILE:10: publishers[0].password_file: "DIR/empty" is empty: write the password into it`},
	{"a file of two lines", "server: sip:a\n    username: me\n    password_file: DIR/two", `FILE:10: publishers[0].password_file: "DIR/two" has control characters, more lines than one, or is no UTF-8: write the password alone into it`},
	{"a long file", "server: sip:a\n    username: me\n    password_file: DIR/long", `FILE:10: publishers[0].password_file: "DIR/long" cannot be read: larger than 4 kB: ` + passwordFix},

	// Others.
	{"a User-Agent with CRLF", "server: sip:a\n    user_agent: \"x\\r\\nEvil: 1\"", `FILE:9: publishers[0].user_agent: "x\r\nEvil: 1" has control characters or is no UTF-8: write plain text on one line`},
	{"a User-Agent beyond ASCII", "server: sip:a\n    user_agent: ä", `FILE:9: publishers[0].user_agent: "ä" ` + agentFix},
	{"a User-Agent of spaces", "server: sip:a\n    user_agent: ' '", `FILE:9: publishers[0].user_agent: " " ` + agentFix},
	{"a long User-Agent", "server: sip:a\n    user_agent: " + strings.Repeat("x", 129), `FILE:9: publishers[0].user_agent: "` + strings.Repeat("x", 80) + `"… ` + agentFix},
	{"a negative rate", "server: sip:a\n    rate: -1", "FILE:9: publishers[0].rate: -1 is out of range: write 0 to 100000"},
	{"a high rate", "server: sip:a\n    rate: 100001", "FILE:9: publishers[0].rate: 100001 is out of range: write 0 to 100000"},
	{"a broken rate", "server: sip:a\n    rate: 0.5", "FILE:9: publishers[0].rate: 0.5 is a number: write a whole number, without quotes"},
	{"initial_expires over expires", "server: sip:a\n    initial_expires: 601s", "FILE:9: publishers[0].initial_expires: 10m1s is more than expires, which is 10m0s: write less, or 0s for as long as that"},
	{"initial_expires of seconds", "server: sip:a\n    initial_expires: 9s", "FILE:9: publishers[0].initial_expires: 9s is too short: write 10s at least, or 0s for as long as expires"},
	{"initial_expires of half a second", "server: sip:a\n    initial_expires: 10.5s", "FILE:9: publishers[0].initial_expires: 10.5s is no whole number of seconds: write such as 600s"},
	{"initial_expires below 0", "server: sip:a\n    initial_expires: -1s", "FILE:9: publishers[0].initial_expires: -1s is out of range: write 0s to 24h"},
	{"sentinel", "server: sip:a\n    sentinel: never", `FILE:9: publishers[0].sentinel: "never" is not known: write auto, on or off`},

	// The filter.
	{"a filter's domain", "server: sip:a\n    filter: {domains: [exmaple.com]}", `FILE:9: publishers[0].filter.domains[0]: "exmaple.com" ` + nowhere + "did you mean example.com?"},
	{"a filter's other domain", "server: sip:a\n    filter: {domains: [example.com, other.invalid]}", `FILE:9: publishers[0].filter.domains[1]: "other.invalid" ` + nowhere + "add it there, or remove it here"},
	{"a filter's bad domain", "server: sip:a\n    filter: {domains: ['*.example.com', x.invalid]}", `FILE:9: publishers[0].filter.domains[0]: "*.example.com" ` + domainFix},
	{"a filter's user", "server: sip:a\n    filter: {users: [alice]}", `FILE:9: publishers[0].filter.users[0]: "alice" is not the URI of a user: write it like sip:alice@example.com, in up to 255 bytes`},
	{"a filter's user elsewhere", "server: sip:a\n    filter: {users: ['sip:a@example.co']}", `FILE:9: publishers[0].filter.users[0]: "sip:a@example.co" ` + nowhere + "did you mean example.com?"},
	{"a filter's user again", "server: sip:a\n    filter: {users: ['sip:a@example.com', 'sips:a@EXAMPLE.com']}", `FILE:9: publishers[0].filter.users[1]: "sips:a@EXAMPLE.com" is publishers[0].filter.users[0] again: remove one of them`},
	{"an expression", "server: sip:a\n    filter: {match: [x, '[a']}", `FILE:9: publishers[0].filter.match[1]: "[a" is no regular expression, missing closing ] "[a": ` + patternFix},
	{"an expression that looks ahead", "server: sip:a\n    filter:\n      except: ['^sip:(?!1)']", `FILE:10: publishers[0].filter.except[0]: "^sip:(?!1)" is no regular expression, invalid or unsupported Perl syntax "(?!": ` + patternFix},
	{"an expression that repeats", "server: sip:a\n    filter: {match: ['(a{1000}){1000}']}", `FILE:9: publishers[0].filter.match[0]: "(a{1000}){1000}" is no regular expression, invalid repeat count "{1000}": ` + patternFix},
	{"an empty expression", "server: sip:a\n    filter: {match: ['']}", `FILE:9: publishers[0].filter.match[0]: "" is an empty regular expression: ` + patternFix},
	{"a long expression", "server: sip:a\n    filter: {match: ['" + strings.Repeat("x", 513) + "']}", `FILE:9: publishers[0].filter.match[0]: "` + strings.Repeat("x", 80) + `"… has 513 bytes: shorten it to 512`},
	{"too many expressions", "server: sip:a\n    filter: {match: [x" + many + "]}", "FILE:9: publishers[0].filter.match: 1001 entries: at most 1000 are possible"},
	{"too many exceptions", "server: sip:a\n    filter: {except: [x" + many + "]}", "FILE:9: publishers[0].filter.except: 1001 entries: at most 1000 are possible"},
	{"text for a list", "server: sip:a\n    filter: {match: x}", `FILE:9: publishers[0].filter.match: "x" is text: ` + listFix},
}

const (
	passwordFix = "name the file that holds the password and nothing else, readable by busylamp's user"
	agentFix    = "cannot be a User-Agent: write up to 128 printable ASCII characters, such as pbx/1.0, with no space at the ends"
	nowhere     = "is in none of the top-level domains, and whoever is in no such is published nowhere: "
	patternFix  = "write one of RE2's, such as ^sip:1[0-9]{3}@"
)

func TestLoadPublisherBad(t *testing.T) {
	dir := keyFiles(t)
	for _, tt := range badPublishers {
		t.Run(tt.name, func(t *testing.T) {
			_, lines := loadText(t, publisher(strings.ReplaceAll(tt.keys, "DIR", dir)))
			wantLines(t, lines, strings.ReplaceAll(tt.want, "DIR", dir))
			if strings.Contains(strings.Join(lines, "\n"), "hunter") {
				t.Error("a password is told")
			}
		})
	}
}

// TestLoadFilterMany is about time: a pilot group of 30,000, all of them misspelt.
func TestLoadFilterMany(t *testing.T) {
	var b strings.Builder
	list := "[example.com"
	for i := range 999 {
		list += fmt.Sprintf(", d%d.invalid", i)
	}
	b.WriteString(strings.Replace(publisher("server: sip:a\n    filter:\n      users:\n"), "[example.com", list, 1))
	for i := range 30_000 {
		fmt.Fprintf(&b, "        - sip:user%d@exmaple.com\n", i)
	}
	start := time.Now()
	_, lines := loadText(t, b.String())
	if len(lines) != maxProblems+1 || !strings.Contains(lines[0], "did you mean example.com?") {
		t.Errorf("%d lines: %s", len(lines), lines[0])
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestEnvironmentPublisher(t *testing.T) {
	dir := keyFiles(t)
	cfg, lines := loadText(t, small, "BUSYLAMP_PUBLISHERS_0_SERVER=sips:a", "BUSYLAMP_PUBLISHERS_0_USERNAME=me",
		"BUSYLAMP_PUBLISHERS_0_PASSWORD=hunter2", "BUSYLAMP_PUBLISHERS_0_TLS_CA_FILE="+dir+"/own.crt",
		"BUSYLAMP_PUBLISHERS_0_TLS_VERIFY=off", "BUSYLAMP_PUBLISHERS_0_RATE=7", "BUSYLAMP_PUBLISHERS_0_USER_AGENT=x",
		"BUSYLAMP_PUBLISHERS_0_INITIAL_EXPIRES=1m", "BUSYLAMP_PUBLISHERS_0_OUTBOUND_PROXY=sips:b",
		"BUSYLAMP_PUBLISHERS_0_FILTER_DOMAINS=example.com", "BUSYLAMP_PUBLISHERS_0_FILTER_USERS= sip:a,b@example.com  sip:c@example.com",
		"BUSYLAMP_PUBLISHERS_0_FILTER_MATCH=^sip:1{1,3}@ x", "BUSYLAMP_PUBLISHERS_0_FILTER_EXCEPT=")
	wantLines(t, lines)
	want := smallConfig().Publishers[0]
	want.Server, want.OutboundProxy, want.Username, want.Password, want.UserAgent = "sips:a", "sips:b", "me", "hunter2", "x"
	want.TLS, want.Rate, want.InitialExpires = tlsConfig{CAFile: dir + "/own.crt", Verify: "off"}, 7, time.Minute
	want.Filter = filterConfig{Domains: []string{"example.com"}, Users: []string{"sip:a,b@example.com", "sip:c@example.com"},
		Match: []string{"^sip:1{1,3}@", "x"}}
	if !reflect.DeepEqual(cfg.Publishers[0], want) {
		t.Errorf("got\n%+v\nwant\n%+v", cfg.Publishers[0], want)
	}
	cfg, lines = loadText(t, small, "BUSYLAMP_PUBLISHERS_0_USERNAME=me", "BUSYLAMP_PUBLISHERS_0_PASSWORD_FILE="+dir+"/password")
	wantLines(t, lines)
	if cfg.Publishers[0].Password != "hunter2 " {
		t.Error("the file's password is another")
	}
	for variable, want := range map[string]string{
		"PASSWORD=hunter2\x01":                         "password: (hidden) has control characters or is no UTF-8: write plain text on one line",
		"PASSWORT=hunter2":                             "",
		"PASSWORD_FILE=hunter2":                        "password_file: (hidden) cannot be read: no such file or directory: " + passwordFix,
		"TLS_VERIFY=maybe":                             `tls.verify: "maybe" is not known: write on or off`,
		"FILTER_MATCH=a (":                             `filter.match[1]: "(" is no regular expression, missing closing ) "(": ` + patternFix,
		"FILTER_MATCH=" + many:                         "",
		"FILTER_EXCEPT=x" + strings.Repeat(" x", 1000): "filter.except: 1001 entries: at most 1000 are possible",
	} {
		name, _, _ := strings.Cut(variable, "=")
		_, lines := loadText(t, small, "BUSYLAMP_PUBLISHERS_0_"+variable)
		text := strings.Join(lines, "\n")
		if text == "" || want != "" && text != "BUSYLAMP_PUBLISHERS_0_"+name+": publishers[0]."+want || strings.Contains(text, "hunter") {
			t.Errorf("%.30s: %s", variable, text)
		}
	}
}

// TestSecretsAreHidden: whatever is printed by mistake holds no password.
func TestSecretsAreHidden(t *testing.T) {
	for _, at := range []string{"publishers[0].password", "redis.client_Secret"} {
		p := newProblems("FILE")
		p.bad(at, "hunter2", "is too short")
		wantLines(t, []string{p.err().Error()}, "FILE: "+at+": (hidden) is too short")
	}
	c := smallConfig()
	c.Publishers[0].Password = "hunter2"
	var out strings.Builder
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "config", c, "password", c.Publishers[0].Password)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "config", c, "password", c.Publishers[0].Password)
	json.NewEncoder(&out).Encode(c)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb, c)
		fmt.Fprintf(&out, verb, c.Publishers[0].Password)
	}
	if text := out.String(); strings.Contains(text, "hunter2") || strings.Contains(text, "68756e74657232") || !strings.Contains(text, hidden) {
		t.Errorf("got %s", text)
	}
}

// TestServersKnowTheirProxy: what is published by another way may be at another server.
func TestServersKnowTheirProxy(t *testing.T) {
	direct, by := smallConfig(), smallConfig()
	by.Publishers[0].OutboundProxy = "sip:b"
	if d, b := direct.ids()["presence"], by.ids()["presence"]; d == b || !strings.HasPrefix(d, "presence#") {
		t.Errorf("direct %q, by a proxy %q", d, b)
	}
}
