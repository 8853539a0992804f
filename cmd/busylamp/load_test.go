package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// small is the smallest useful configuration, of 8 lines.
const small = `kamailio:
  - name: proxy1
    evapi: 127.0.0.1:8448
    rpc: http://127.0.0.1:5060/RPC
domains: [example.com]
publishers:
  - name: presence
    server: sip:127.0.0.1:5090;transport=udp
`

func smallConfig() config {
	c := defaults()
	c.Kamailio = []proxyConfig{{Name: "proxy1", Evapi: "127.0.0.1:8448", RPC: "http://127.0.0.1:5060/RPC"}}
	c.Domains = []string{"example.com"}
	pub := defaultPublisher()
	pub.Name, pub.Server = "presence", "sip:127.0.0.1:5090;transport=udp"
	c.Publishers = []publisherConfig{pub}
	return c
}

func writeFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "busylamp.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// loadText loads a text; the lines of the error have FILE for the file's path.
func loadText(t testing.TB, text string, environ ...string) (config, []string) {
	t.Helper()
	path := writeFile(t, text)
	cfg, err := load(path, environ)
	if err == nil {
		return cfg, nil
	}
	return cfg, strings.Split(strings.ReplaceAll(err.Error(), path, "FILE"), "\n")
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

func TestLoad(t *testing.T) {
	tests := []struct {
		name, text string
		change     func(*config)
	}{
		{"the smallest", small, func(*config) {}},
		{"explicit nulls", small + "names:\nlog:\n", func(*config) {}},
		{"early: off as text", small + "early: 'off'\n", func(*config) {}},
		{"early: off as YAML 1.1 means it", small + "early: false\n", func(*config) {}},
		{"early", small + "early: publish\n", func(c *config) { c.Early = "publish" }},
		{"admin: off", small + "admin: off\n", func(c *config) { c.Admin = "" }},
		{"admin: off as YAML 1.1 means it", small + "admin: false\n", func(c *config) { c.Admin = "" }},
		{"admin: nothing", small + `admin: ""`, func(c *config) { c.Admin = "" }},
		{"admin: IPv6", small + `admin: "[::1]:9448"`, func(c *config) { c.Admin = "[::1]:9448" }},
		{"admin: localhost", small + "admin: localhost:1\n", func(c *config) { c.Admin = "localhost:1" }},
		{"admin: all of 127", small + "admin: 127.1.2.3:1\n", func(c *config) { c.Admin = "127.1.2.3:1" }},
		{"a section of one key", small + "log:\n  level: debug\n", func(c *config) { c.Log.Level = "debug" }},
		{"scalars", small + "audit: 90s\nhold: 1h30m\nsides: callee\non_stop: withdraw\nstate: here\n", func(c *config) {
			c.Audit, c.Hold, c.Sides, c.OnStop, c.State = 90*time.Second, 90*time.Minute, "callee", "withdraw", "here"
		}},
		{"a publisher", small + "    profile: audiocodes\n    expires: 1h\n    timeout: 5s\n    max_outstanding: 0x10\n    tuple_id: t-1\n",
			func(c *config) {
				c.Publishers[0] = publisherConfig{Name: "presence", Server: c.Publishers[0].Server, Profile: "audiocodes",
					Expires: time.Hour, Timeout: 5 * time.Second, MaxOutstanding: 16, TupleID: "t-1", RefreshBody: "auto", Sentinel: "auto", Part: "all",
					TLS: tlsConfig{Verify: "on"}}
			}},
		{"domains are canonical", strings.Replace(small, "[example.com]", "[Example.COM., 192.0.2.1, '2001:DB8::1', '[::1]']", 1),
			func(c *config) { c.Domains = []string{"example.com", "192.0.2.1", "[2001:db8::1]", "[::1]"} }},
		{"names are canonical", small + "names:\n  sips:%61lice@EXAMPLE.com:5061;x=y: Älice A.\n",
			func(c *config) { c.Names = map[string]string{"sip:alice@example.com": "Älice A."} }},
		{"a FIFO", strings.Replace(small, "http://127.0.0.1:5060/RPC", "fifo:/run/rpc", 1),
			func(c *config) { c.Kamailio[0].RPC = "fifo:/run/rpc" }},
		{"an IPv6 server", strings.Replace(small, "sip:127.0.0.1:5090;transport=udp", `"sip:[::1];transport=TCP"`, 1),
			func(c *config) { c.Publishers[0].Server = "sip:[::1];transport=TCP" }},
		{"an alias", strings.Replace(small, "name: proxy1", "name: &n proxy1", 1) + "    tuple_id: *n\n",
			func(c *config) { c.Publishers[0].TupleID = "proxy1" }},
		{"a byte order mark, CRLF and document marks", "\ufeff---\r\n" + strings.ReplaceAll(small, "\n", "\r\n") + "...\r\n", func(*config) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := smallConfig()
			tt.change(&want)
			got, lines := loadText(t, tt.text)
			wantLines(t, lines)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got\n%+v\nwant\n%+v", got, want)
			}
		})
	}
}

// TestLoadMany is about time, too: 100,000 names must not hold up a start.
func TestLoadMany(t *testing.T) {
	const n = 100_000
	var b strings.Builder
	b.WriteString(small + "names:\n")
	for i := range n {
		fmt.Fprintf(&b, "  sip:user%d@example.com: User %d\n", i, i)
	}
	start := time.Now()
	cfg, lines := loadText(t, b.String())
	wantLines(t, lines)
	if len(cfg.Names) != n {
		t.Errorf("%d names, want %d", len(cfg.Names), n)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %v", took)
	}
	_, lines = loadText(t, b.String()+"  sip:one@example.com: One Too Many\n")
	wantLines(t, lines, "FILE:9: names: 100001 entries: at most 100000 are possible")
}

func TestLoadManyProblems(t *testing.T) {
	text := small + "names:\n"
	for i := range maxProblems + 7 {
		text += fmt.Sprintf("  user%d: x\n", i)
	}
	_, lines := loadText(t, text)
	if n := len(lines); n != maxProblems+1 {
		t.Fatalf("%d lines, want %d", n, maxProblems+1)
	}
	wantLines(t, lines[maxProblems:], "FILE: and 7 more problems")
}

func TestLoadUnreadable(t *testing.T) {
	dir := t.TempDir()
	_, err := load(filepath.Join(dir, "none"), nil)
	wantLines(t, []string{err.Error()},
		dir+"/none: cannot be read: no such file or directory: name the configuration file with -c")
	_, err = load(dir, nil)
	wantLines(t, []string{err.Error()}, dir+": cannot be read: is a directory: name the configuration file with -c")
	_, lines := loadText(t, small+strings.Repeat("#", maxFile))
	wantLines(t, lines, "FILE: larger than 8 MiB: is this the right file?")
	_, lines = loadText(t, "# "+strings.Repeat("x", maxFile-len(small)-3)+"\n"+small)
	wantLines(t, lines)
}

// FuzzLoad looks for panics, and for errors that are not one line each.
func FuzzLoad(f *testing.F) {
	f.Add(small, "BUSYLAMP_ADMIN=off")
	for _, tt := range badFiles {
		f.Add(tt.text, "BUSYLAMP_KAMAILIO_1_NAME=x")
	}
	for _, tt := range badPublishers {
		f.Add(publisher(tt.keys), "BUSYLAMP_PUBLISHERS_0_FILTER_MATCH=(a ")
	}
	for _, tt := range badEnvirons {
		f.Add(small, tt.environ[0])
	}
	f.Fuzz(func(t *testing.T, text, variable string) {
		cfg, lines := loadText(t, text, variable)
		if lines == nil && (len(cfg.Kamailio) == 0 || len(cfg.Domains) == 0 || len(cfg.Publishers) == 0) {
			t.Errorf("accepted %+v", cfg)
		}
		for _, l := range lines {
			from := strings.HasPrefix(l, "FILE") || strings.HasPrefix(l, envPrefix)
			if !from || strings.Contains(l, "does not fit here") || len(l) > 1000 {
				t.Errorf("error line %q", l)
			}
		}
	})
}

func TestSummary(t *testing.T) {
	c := smallConfig()
	c.Domains = append(c.Domains, "example.org")
	if got, want := c.summary(), "1 proxy, 1 publisher, 2 domains"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
