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

	Plugins   pluginsConfig     `koanf:"plugins"`
	Sources   []sourceConfig    `koanf:"sources" max:"32"`                // further systems that know of people's presence
	Rules     []ruleConfig      `koanf:"rules" max:"1000"`                // which sources speak for whom, the first that matches; none: all for all
	Preferred string            `koanf:"preferred_source"`                // where it says something, other plugins' sources are not heard; "" for none
	Order     []string          `koanf:"precedence" max:"20"`             // states, the strongest first
	Forwarded string            `koanf:"forwarded" oneof:"flag,state"`    // state: who forwards calls shows that rather than busy or available
	ShownAs   map[string]string `koanf:"published_as" max:"20"`           // what a state is published as, where it is not itself
	Endpoints []endpointConfig  `koanf:"endpoints" max:"10000"`           // help desks, bots, queues: always published
	Watch     []string          `koanf:"watch" max:"1000000" sep:"space"` // whom the sources are asked for
	WatchFile string            `koanf:"watch_file"`                      // the same, a URI on each line; "" for none
	Numbers   []string          `koanf:"numbers" max:"1000"`              // E.164 numbers that are presentities (tel:), by their beginnings
	UPNs      map[string]string `koanf:"upns" max:"100000"`               // user principal names by presentity URI
}

// pluginsConfig says where plugins are.
type pluginsConfig struct {
	Dir           string `koanf:"dir"`            // directory of the binaries
	AllowUnpinned bool   `koanf:"allow_unpinned"` // run one whose sha256 is not in the configuration
}

// sourceConfig is one source: a plugin with its settings.
type sourceConfig struct {
	Name           string        `koanf:"name"`
	Plugin         string        `koanf:"plugin"` // a file in plugins.dir
	SHA256         string        `koanf:"sha256"` // of the file, as `busylamp plugin pin` writes it
	MTLS           string        `koanf:"mtls" oneof:"on,off" false:"off" true:"on"`
	Grace          time.Duration `koanf:"grace" min:"0s" max:"24h"` // how long its claims outlive it
	Priority       int           `koanf:"priority" min:"0" max:"1000"`
	PerSecond      int           `koanf:"max_subscriptions_per_second" min:"1" max:"100000"`
	FailedDelay    time.Duration `koanf:"failed_subscription_delay" min:"1s" max:"24h"`
	MaxFailedDelay time.Duration `koanf:"max_failed_subscription_delay" min:"1s" max:"168h"`
	MaxFailed      int           `koanf:"max_failed_subscriptions_per_uri" min:"0" max:"1000"`
	SameSystemAs   []string      `koanf:"same_system_as" max:"16"` // the publishers whose server it reads
	Config         settings      `koanf:"config" max:"1000"`       // the plugin's own
}

// settings are a plugin's own section, whose keys are the plugin's.
type settings map[string]any

// Format is part of fmt.Formatter: passwords may be in it.
func (settings) Format(f fmt.State, _ rune) { io.WriteString(f, hidden) }

// ruleConfig says which sources speak for the presentities that it matches: all of its
// conditions have to hold. See rules.go.
type ruleConfig struct {
	Match   string   `koanf:"match"` // a regular expression, somewhere in the URI
	Domains []string `koanf:"domains" max:"1000"`
	E164    bool     `koanf:"e164"`    // tel:+number
	HasUPN  bool     `koanf:"has_upn"` // a UPN is in the directory
	Sources []string `koanf:"sources" max:"33"`
}

// endpointConfig is an application's presentity, which is published as long as we run.
type endpointConfig struct {
	Presentity string `koanf:"presentity"`
	State      string `koanf:"state"`                        // as which; "calls": available, or busy by its calls
	BusyAt     int    `koanf:"busy_at" min:"1" max:"100000"` // with state calls: how many make it busy
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
	Part           string        `koanf:"part" oneof:"all,telephony,rich"`                    // what of a presence
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

		Plugins:   pluginsConfig{Dir: "/usr/lib/busylamp/plugins"},
		Forwarded: "flag",
	}
}

// defaultSource is an entry of sources where the file is silent. The figures are those that
// contact centres know.
func defaultSource() sourceConfig {
	return sourceConfig{
		MTLS:           "on",
		Grace:          30 * time.Second,
		PerSecond:      15,
		FailedDelay:    900 * time.Second,
		MaxFailedDelay: 28800 * time.Second,
		MaxFailed:      3,
	}
}

// defaultEndpoint is an entry of endpoints where the file is silent.
func defaultEndpoint() endpointConfig { return endpointConfig{State: "available", BusyAt: 1} }

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
		Part:           "all",
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
	text := count(len(c.Kamailio), "proxy", "proxies") + ", " +
		count(len(c.Publishers), "publisher", "publishers") + ", " +
		count(len(c.Domains), "domain", "domains")
	if len(c.Sources) > 0 {
		text += ", " + count(len(c.Sources), "source", "sources") + ", " + count(len(c.Watch), "presentity watched", "presentities watched")
	}
	return text
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
