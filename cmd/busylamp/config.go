package main

import (
	"cmp"
	"fmt"
	"io"
	"time"
)

// config is the configuration file. Every key can also come from the environment (see
// env.go), which wins over the file.
//
// The tags are the rules that one value alone can break (see shape.go): max is the most
// entries of a list, min and max bound a number or a duration, oneof lists the words that
// a text can be, false and true are what these mean in YAML, for the words that YAML 1.1
// takes for them, and sep is what separates a list's entries in a variable (see env.go). Rules between values are in validate.go.
type config struct {
	Kamailio   []proxyConfig     `koanf:"kamailio" max:"64"`                     // the proxies, at least one
	Domains    []string          `koanf:"domains" max:"1000"`                    // presentities that we publish for, at least one
	Publishers []publisherConfig `koanf:"publishers" max:"16"`                   // the presence servers, at least one
	State      string            `koanf:"state"`                                 // directory for what outlives a restart
	Admin      string            `koanf:"admin" false:"off"`                     // loopback host:port of the HTTP interface; "" for none
	Sides      string            `koanf:"sides" oneof:"both,caller,callee"`      // whose presence a call makes
	Early      string            `koanf:"early" oneof:"off,publish" false:"off"` // publish: a ringing call makes busy, too
	Names      map[string]string `koanf:"names" max:"100000"`                    // display names by presentity URI
	OnStop     string            `koanf:"on_stop" oneof:"keep,withdraw"`         // keep what is published, or withdraw it
	Audit      time.Duration     `koanf:"audit" min:"10s" max:"24h"`             // how often calls are compared with the proxy's list
	Hold       time.Duration     `koanf:"hold" min:"1m" max:"24h"`               // how long the calls of an unreachable proxy are kept
	Log        logConfig         `koanf:"log"`
}

// proxyConfig is one Kamailio.
type proxyConfig struct {
	Name  string `koanf:"name"`  // for logs, metrics and the API
	Evapi string `koanf:"evapi"` // host:port
	RPC   string `koanf:"rpc"`   // http://host:port/RPC or fifo:PATH
	Dump  string `koanf:"dump"`  // directory where the proxy writes its dialogs when it is asked for them, "" for none
}

// publisherConfig is one presence server.
type publisherConfig struct {
	Name           string        `koanf:"name"`
	Server         string        `koanf:"server"`                                             // see problems.target
	OutboundProxy  string        `koanf:"outbound_proxy"`                                     // where requests to the server go first, "" for the server itself
	TLS            tlsConfig     `koanf:"tls"`                                                // of the first of these hops
	Username       string        `koanf:"username"`                                           // for digest authentication, "" for none
	Password       secret        `koanf:"password"`                                           // after validate that of password_file, too
	PasswordFile   string        `koanf:"password_file"`                                      // holds the password, "" for none
	Profile        string        `koanf:"profile" oneof:"rpid,audiocodes"`                    // the format of the document
	Expires        time.Duration `koanf:"expires" min:"10s" max:"24h"`                        // lifetime of a publication
	InitialExpires time.Duration `koanf:"initial_expires" min:"0s" max:"24h"`                 // that of its first request, 0 for Expires
	TupleID        string        `koanf:"tuple_id"`                                           // the PIDF tuple's id, "" for the profile's own
	UserAgent      string        `koanf:"user_agent"`                                         // "" for our own, see userAgent
	RefreshBody    string        `koanf:"refresh_body" oneof:"auto,always,never"`             // whether a refresh repeats the document
	Sentinel       string        `koanf:"sentinel" oneof:"auto,on,off" false:"off" true:"on"` // whether a server that lost its table is looked for
	Timeout        time.Duration `koanf:"timeout" min:"1s" max:"5m"`                          // of one request
	MaxOutstanding int           `koanf:"max_outstanding" min:"1" max:"4096"`                 // requests at a time
	Rate           int           `koanf:"rate" min:"0" max:"100000"`                          // requests per second, 0 for no limit
	Filter         filterConfig  `koanf:"filter"`                                             // whose presence is published here
}

// tlsConfig says how a server proves who it is, and how we do.
type tlsConfig struct {
	CAFile     string `koanf:"ca_file"`     // who may vouch for the server, "" for the system's authorities
	CertFile   string `koanf:"cert_file"`   // our certificate with its chain, "" for none
	KeyFile    string `koanf:"key_file"`    // its key
	ServerName string `koanf:"server_name"` // in the server's certificate, "" for the host that is configured
	Verify     string `koanf:"verify" oneof:"on,off" false:"off" true:"on"`
}

// filterConfig chooses presentities. See filter.go.
type filterConfig struct {
	Domains []string `koanf:"domains" max:"1000"`
	Users   []string `koanf:"users" max:"100000" sep:"space"`
	Match   []string `koanf:"match" max:"1000" sep:"space"`
	Except  []string `koanf:"except" max:"1000" sep:"space"`
}

// secret is text that fmt, log/slog and encoding/json do not show.
type secret string

const hidden = "(hidden)"

// Format is part of fmt.Formatter.
func (secret) Format(f fmt.State, _ rune) { io.WriteString(f, hidden) }

// MarshalText is part of encoding.TextMarshaler.
func (secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// logConfig says what is logged to standard error, and how.
type logConfig struct {
	Level  string `koanf:"level" oneof:"debug,info,warn,error"`
	Format string `koanf:"format" oneof:"text,json"`
}

// defaults is the configuration where the file is silent.
func defaults() config {
	return config{
		State:  "/var/lib/busylamp",
		Admin:  "127.0.0.1:9448",
		Sides:  "both",
		Early:  "off",
		OnStop: "keep",
		Audit:  5 * time.Minute,
		Hold:   time.Hour,
		Log:    logConfig{Level: "info", Format: "text"},
	}
}

// defaultPublisher is an entry of publishers where the file is silent.
func defaultPublisher() publisherConfig {
	return publisherConfig{
		TLS:            tlsConfig{Verify: "on"},
		Profile:        "rpid",
		Expires:        600 * time.Second,
		RefreshBody:    "auto",
		Sentinel:       "auto",
		Timeout:        32 * time.Second, // RFC 3261's timer F
		MaxOutstanding: 256,
	}
}

// repeatsBody tells whether a refresh repeats the document. RFC 3903 asks for none, and
// AudioCodes' devices send none; but a Kamailio presence server without a database (5.6.3,
// publ_cache 2) then forgets the one it has, and shows the user free.
func (p publisherConfig) repeatsBody() bool {
	return p.RefreshBody == "always" || p.RefreshBody == "auto" && p.Profile == "rpid"
}

// firstHop is where requests are sent: the outbound proxy, or the server.
func (p publisherConfig) firstHop() string { return cmp.Or(p.OutboundProxy, p.Server) }

// userAgent is the User-Agent header.
func (p publisherConfig) userAgent() string { return cmp.Or(p.UserAgent, "busylamp/"+version) }

// hasSentinel tells whether publications are refreshed now and then to see that the server
// still has them. AudioCodes' devices do not.
func (p publisherConfig) hasSentinel() bool {
	return p.Sentinel == "on" || p.Sentinel == "auto" && p.Profile == "rpid"
}

// summary counts what is configured, for people.
func (c config) summary() string {
	return count(len(c.Kamailio), "proxy", "proxies") + ", " +
		count(len(c.Publishers), "publisher", "publishers") + ", " +
		count(len(c.Domains), "domain", "domains")
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
