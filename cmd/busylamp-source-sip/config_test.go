package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/busylamp/busylamp/adapters/sipnet"
	"github.com/busylamp/busylamp/plugin/plugintest"
)

// samples are the configurations in README.md.
func samples(t *testing.T) (single, several map[string]any) {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d samples", len(blocks))
	}
	var whole struct {
		Sources []struct{ Config map[string]any }
	}
	if err := yaml.Unmarshal([]byte(blocks[0][1]), &whole); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(blocks[1][1]), &several); err != nil {
		t.Fatal(err)
	}
	return whole.Sources[0].Config, several
}

// TestSamples: the samples of README.md are good, and what they say arrives; every key is in
// them, or in a comment of them.
func TestSamples(t *testing.T) {
	single, several := samples(t)
	s := newSource()
	if err := plugintest.Configure(t, s, single); err != nil {
		t.Fatal(err)
	}
	a := s.cfg.accounts[0]
	if a.server != (sipnet.Target{Host: "pbx2.example.com", Transport: "tcp"}) || a.uri.String() != "sip:busylamp@pbx2.example.com" ||
		a.username != "busylamp" || a.password != "change-me" || a.domain != "pbx2.example.com" || len(s.cfg.packages) != 2 ||
		s.cfg.expires != 10*time.Minute || s.cfg.timeout != 32*time.Second || len(s.cfg.lists) != 1 {
		t.Errorf("%+v", s.cfg)
	}
	if err := plugintest.Configure(t, s, several); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.Endpoints(), " "); got != "application user" {
		t.Errorf("endpoints %s", got)
	}
	text, _ := os.ReadFile("README.md")
	for _, k := range keys {
		if !strings.Contains(string(text), k.Name+":") {
			t.Errorf("README.md does not name %s", k.Name)
		}
	}
}

// TestServers: the ways to write a server.
func TestServers(t *testing.T) {
	for _, c := range []struct {
		server, transport string
		want              sipnet.Target
	}{
		{"pbx", "", sipnet.Target{Host: "pbx", Transport: "udp"}},
		{"pbx", "tcp", sipnet.Target{Host: "pbx", Transport: "tcp"}},
		{"192.0.2.1:5070", "tcp", sipnet.Target{Host: "192.0.2.1", Port: 5070, Transport: "tcp"}},
		{"2001:db8::1", "", sipnet.Target{Host: "2001:db8::1", Transport: "udp"}},
		{"[2001:db8::1]:5070", "", sipnet.Target{Host: "2001:db8::1", Port: 5070, Transport: "udp"}},
		{"sip:pbx:5070;transport=tcp", "udp", sipnet.Target{Host: "pbx", Port: 5070, Transport: "tcp"}},
		{"sip:pbx", "tcp", sipnet.Target{Host: "pbx", Transport: "tcp"}},
	} {
		var p problems
		if got := p.target("server", c.server, c.transport, true); got != c.want || len(p) > 0 {
			t.Errorf("%s %s: %+v, %v", c.server, c.transport, got, p)
		}
	}
}

// TestBadConfigs: what is wrong is named with its key, and no password is told.
func TestBadConfigs(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	open, empty, two := file("open", "hunter2", 0o644), file("empty", "\n", 0o600), file("two", "hunter2\nhunter3\n", 0o600)
	for _, c := range []struct {
		change map[string]any
		want   string
	}{
		{map[string]any{"server": nil}, "server: is missing"},
		{map[string]any{"server": "sip:pbx;lr"}, `server: "sip:pbx;lr"`},
		{map[string]any{"server": "bad host"}, "server: "},
		{map[string]any{"transport": "sctp"}, "transport: "},
		{map[string]any{"outbound_proxy": "sip:"}, "outbound_proxy: "},
		{map[string]any{"uri": nil}, "uri: is missing"},
		{map[string]any{"uri": "example.com"}, "uri: "},
		{map[string]any{"domain": "a b"}, "domain: "},
		{map[string]any{"event": "reg"}, `event: "reg" is none`},
		{map[string]any{"expires": "1s"}, "expires: 1s is out of bounds"},
		{map[string]any{"expires": "1 week"}, "expires: "},
		{map[string]any{"timeout": "0s"}, "timeout: "},
		{map[string]any{"max_subscriptions": 0}, "max_subscriptions: "},
		{map[string]any{"max_subscriptions": "many"}, "max_subscriptions: "},
		{map[string]any{"user_agent": "a\r\nb: c"}, "user_agent: "},
		{map[string]any{"lists": []string{"team"}}, "lists[0]: "},
		{map[string]any{"lists": "sip:team@x"}, "lists: "},
		{map[string]any{"username": "me"}, "username: has no password"},
		{map[string]any{"password": "hunter2", "password_file": open}, "password_file: password is given, too"},
		{map[string]any{"password_file": "hunter2"}, "password_file: (hidden) cannot be read"},
		{map[string]any{"password_file": open}, "chmod o-r"},
		{map[string]any{"password_file": empty}, "password_file: "},
		{map[string]any{"password_file": two}, "password_file: "},
		{map[string]any{"password_file": dir}, "is no regular file"},
		{map[string]any{"password": "hunter2\r\n"}, "password: has control characters"},
		{map[string]any{"tls": map[string]any{"ca_file": "/nowhere"}}, "tls: the server is not by TLS"},
		{map[string]any{"transport": "tls", "tls": map[string]any{"ca_file": "/nowhere"}}, "tls: tls.ca_file"},
		{map[string]any{"tls": map[string]any{"cafile": "x"}}, "tls.cafile: unknown key: did you mean ca_file?"},
		{map[string]any{"sever": "x"}, "sever: unknown key: did you mean server?"},
		{map[string]any{"accounts": []any{map[string]any{"server": "x", "uri": "a@b"}}}, "accounts: they stand beside"},
		{map[string]any{"server": nil, "uri": nil, "accounts": []any{map[string]any{"server": "x"}}}, "accounts[0].uri: is missing"},
		{map[string]any{"server": nil, "uri": nil, "accounts": []any{map[string]any{"server": "x", "uri": "a@b"}, map[string]any{"server": "x", "uri": "a@b"}}}, "accounts[1].name: "},
	} {
		config := map[string]any{"server": "pbx.example.com", "uri": "sip:me@example.com"}
		for k, v := range c.change {
			if config[k] = v; v == nil {
				delete(config, k)
			}
		}
		err := plugintest.Configure(t, newSource(), config)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %s", c.change, err, c.want)
		} else if strings.Contains(err.Error(), "hunter") {
			t.Errorf("%v tells a password: %v", c.change, err)
		}
	}
}

// TestConformance: the program keeps to the contract.
func TestConformance(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", serving)
	good := to(n)
	plugintest.Run(t, plugintest.Options{
		Config: good,
		BadConfigs: []plugintest.BadConfig{
			{Config: to(n, "event", "reg"), Key: "event"},
			{Config: to(n, "expires", 5), Key: "expires"},
			{Config: map[string]any{"uri": "sip:me@example.com"}, Key: "server"},
		},
		Watch:   []plugintest.Watched{{Presentity: alice, State: 2, Availability: 2}, {Presentity: "tel:+31612345678", State: 2}},
		Trigger: func() { d := n.find(alice); d.back()(d.notice(active1h, onPhone(alice))) },
	})
}
