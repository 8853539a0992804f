package main

import (
	"time"
)

// config is the configuration file. Every key can also come from the environment (see
// env.go), which wins over the file.
type config struct {
	Kamailio   []proxyConfig     `koanf:"kamailio"`   // the proxies, at least one
	Domains    []string          `koanf:"domains"`    // presentities that we publish for, at least one
	Publishers []publisherConfig `koanf:"publishers"` // the presence servers, at least one
	State      string            `koanf:"state"`      // directory for what outlives a restart
	Admin      string            `koanf:"admin"`      // loopback host:port of the HTTP interface; "" for none
	Sides      string            `koanf:"sides"`      // both, caller or callee
	Early      string            `koanf:"early"`      // off, or publish: a ringing call makes busy, too
	Names      map[string]string `koanf:"names"`      // display names by presentity URI
	OnStop     string            `koanf:"on_stop"`    // keep what is published, or withdraw it
	Audit      time.Duration     `koanf:"audit"`      // how often calls are compared with the proxy's list
	Hold       time.Duration     `koanf:"hold"`       // how long the calls of an unreachable proxy are kept
	Log        logConfig         `koanf:"log"`
}

// proxyConfig is one Kamailio.
type proxyConfig struct {
	Name  string `koanf:"name"`  // for logs, metrics and the API
	Evapi string `koanf:"evapi"` // host:port
	RPC   string `koanf:"rpc"`   // http://host:port/RPC or fifo:PATH
}

// publisherConfig is one presence server.
type publisherConfig struct {
	Name           string        `koanf:"name"`
	Server         string        `koanf:"server"`          // sip:host[:port][;transport=udp|tcp]
	Profile        string        `koanf:"profile"`         // rpid or audiocodes
	Expires        time.Duration `koanf:"expires"`         // lifetime of a publication
	TupleID        string        `koanf:"tuple_id"`        // the PIDF tuple's id, "" for the profile's own
	Timeout        time.Duration `koanf:"timeout"`         // of one request
	MaxOutstanding int           `koanf:"max_outstanding"` // requests at a time
}

// logConfig says what is logged to standard error, and how.
type logConfig struct {
	Level  string `koanf:"level"`  // debug, info, warn or error
	Format string `koanf:"format"` // text or json
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

// Defaults of the lists' entries.
const (
	defaultProfile        = "rpid"
	defaultExpires        = 600 * time.Second
	defaultTimeout        = 32 * time.Second
	defaultMaxOutstanding = 256
)
