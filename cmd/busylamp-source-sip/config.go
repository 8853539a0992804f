package main

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp/adapters/pidf"
	"github.com/busylamp/busylamp/adapters/sipnet"
	"github.com/busylamp/busylamp/plugin"
)

// settings are the source's section of the configuration, as it is written.
type settings struct {
	accountSettings `yaml:",inline"`
	Event           string            `yaml:"event"`
	Expires         time.Duration     `yaml:"expires"`
	Timeout         time.Duration     `yaml:"timeout"`
	Lists           []string          `yaml:"lists"`
	Accounts        []accountSettings `yaml:"accounts"`
	UserAgent       string            `yaml:"user_agent"`
	Most            int               `yaml:"max_subscriptions"`
}

// accountSettings are those of an account: there is one, or a list of them.
type accountSettings struct {
	Name         string      `yaml:"name"`
	Server       string      `yaml:"server"`
	Transport    string      `yaml:"transport"`
	Proxy        string      `yaml:"outbound_proxy"`
	URI          string      `yaml:"uri"`
	Username     string      `yaml:"username"`
	Password     string      `yaml:"password"`
	PasswordFile string      `yaml:"password_file"`
	Domain       string      `yaml:"domain"`
	TLS          tlsSettings `yaml:"tls"`
}

type tlsSettings struct {
	CAFile     string `yaml:"ca_file"`
	CertFile   string `yaml:"cert_file"`
	KeyFile    string `yaml:"key_file"`
	ServerName string `yaml:"server_name"`
	Verify     *bool  `yaml:"verify"` // nil: yes
}

// config is what the settings amount to.
type config struct {
	accounts  []account
	packages  []*eventPackage
	lists     []string
	expires   time.Duration
	timeout   time.Duration
	userAgent string
	most      int                  // presentities
	own       func(id string) bool // tuples and persons that the host publishes
}

// account is who we are to a server.
type account struct {
	name               string
	server, proxy      sipnet.Target // proxy: zero for none
	tls                sipnet.TLS
	uri                sip.Uri
	username, password string
	domain             string // of telephone numbers
}

// Bounds of the configuration.
const (
	minExpires  = 10 * time.Second
	minTimeout  = time.Second
	maxTimeout  = 5 * time.Minute
	maxLists    = 100
	maxAccounts = 10
	mostMost    = 1_000_000
)

// keys are the section's, for people and for `busylamp check`.
var keys = []plugin.Key{
	{Name: "server", Doc: "whom to subscribe at: a host, ip:port, or sip:host:port;transport=tcp (RFC 3263)"},
	{Name: "transport", Doc: "udp, tcp or tls, where server does not say it", Default: "udp"},
	{Name: "outbound_proxy", Doc: "where requests go first, written like server"},
	{Name: "uri", Doc: "who we are: sip:user@host, or user@host"},
	{Name: "username", Doc: "for digest authentication", Default: "the user of uri"},
	{Name: "password", Doc: "its password", Secret: true},
	{Name: "password_file", Doc: "a file that holds the password alone"},
	{Name: "domain", Doc: "of telephone numbers: tel:+31... is sip:+31...@domain;user=phone", Default: "the host of uri"},
	{Name: "tls", Doc: "ca_file, cert_file, key_file, server_name, verify: for transport tls"},
	{Name: "event", Doc: "presence, dialog or both", Default: "presence"},
	{Name: "expires", Doc: "how long a subscription is asked for: a server that has lost it is noticed by then", Default: "600s"},
	{Name: "timeout", Doc: "for an answer, and then for a NOTIFY (Timers F and N)", Default: "32s"},
	{Name: "lists", Doc: "resource lists (RFC 4662) whose members need no subscription of their own"},
	{Name: "accounts", Doc: "several of name, server, uri, username, ...: the preferred one first"},
	{Name: "user_agent", Doc: "the User-Agent header", Default: "busylamp"},
	{Name: "max_subscriptions", Doc: "presentities watched at most", Default: "100000"},
}

// readConfig makes a configuration of a section, or says what is wrong with it.
func readConfig(section plugin.Config) (*config, error) {
	s := settings{Event: presence.name, Expires: 10 * time.Minute, Timeout: 32 * time.Second, UserAgent: "busylamp", Most: 100_000}
	if err := section.Decode(&s); err != nil {
		return nil, err
	}
	cfg := &config{expires: s.Expires, timeout: s.Timeout, userAgent: s.UserAgent, most: s.Most, own: pidf.Own(section.OwnTuples)}
	var p problems
	p.general(s, cfg)
	if len(s.Accounts) > 0 && s.accountSettings != (accountSettings{}) {
		p.add("accounts", "they stand beside settings of a single account: move those into the list, or remove it")
	}
	if len(s.Accounts) == 0 {
		s.Accounts = []accountSettings{s.accountSettings}
		cfg.accounts = append(cfg.accounts, p.account("", s.accountSettings))
	} else {
		for i, a := range s.Accounts {
			cfg.accounts = append(cfg.accounts, p.account(fmt.Sprintf("accounts[%d].", i), a))
		}
	}
	p.names(cfg.accounts)
	for i, uri := range s.Lists {
		if _, err := cfg.accounts[0].uriOf(uri); err != nil {
			p.add(fmt.Sprintf("lists[%d]", i), "%v", err)
		}
		cfg.lists = append(cfg.lists, uri)
	}
	return cfg, errors.Join(p...)
}

// general reads what is no account's.
func (p *problems) general(s settings, cfg *config) {
	switch s.Event {
	case presence.name:
		cfg.packages = []*eventPackage{presence}
	case dialogs.name:
		cfg.packages = []*eventPackage{dialogs}
	case "both":
		cfg.packages = []*eventPackage{presence, dialogs}
	default:
		p.add("event", "%.40q is none: write presence, dialog or both", s.Event)
	}
	if s.Expires < minExpires || s.Expires > maxExpires {
		p.add("expires", "%s is out of bounds: write %s to %s", s.Expires, minExpires, maxExpires)
	}
	if s.Timeout < minTimeout || s.Timeout > maxTimeout {
		p.add("timeout", "%s is out of bounds: write %s to %s; RFC 3261's Timer F is 32s", s.Timeout, minTimeout, maxTimeout)
	}
	if s.Most < 1 || s.Most > mostMost {
		p.add("max_subscriptions", "%d is out of bounds: write 1 to %d", s.Most, mostMost)
	}
	if !plainText(s.UserAgent) {
		p.add("user_agent", "%.40q has control characters or over 255 bytes: write one short line", s.UserAgent)
	}
	if len(s.Lists) > maxLists {
		p.add("lists", "%d of them: %d are possible", len(s.Lists), maxLists)
	}
	if len(s.Accounts) > maxAccounts {
		p.add("accounts", "%d of them: %d are possible", len(s.Accounts), maxAccounts)
	}
}

// names gives each account one of its own, which the host knows it by.
func (p *problems) names(accounts []account) {
	seen := map[string]bool{}
	for i := range accounts {
		a := &accounts[i]
		a.name = cmp.Or(a.name, a.uri.Addr())
		if seen[a.name] {
			p.add(fmt.Sprintf("accounts[%d].name", i), "%q is another one's: give each its own", a.name)
		}
		seen[a.name] = true
	}
}
