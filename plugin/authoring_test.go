package plugin_test

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/plugin"
	"github.com/busylamp/busylamp/plugin/plugintest"
)

// source is what the snippets of AUTHORING.md make together.
type source struct{ settings }

type settings struct {
	Server   string        `yaml:"server"`
	Backup   string        `yaml:"backup"`
	Interval time.Duration `yaml:"interval"`
}

func (s *source) Describe() plugin.Description {
	return plugin.Description{
		Name: "authoring", Version: "1", Summary: "the source of AUTHORING.md",
		Keys: []plugin.Key{{Name: "server", Doc: "a host", Required: true}, {Name: "backup", Doc: "another"},
			{Name: "interval", Doc: "how often", Default: "1m"}},
	}
}

func (*source) Configure(c plugin.Config) error {
	s := settings{Interval: time.Minute}
	if err := c.Decode(&s); err != nil {
		return err
	}
	if s.Server == s.Backup {
		return plugin.Errorf("backup", "is %s, as server is: name another, or leave it out", s.Backup)
	}
	return nil
}

func (s *source) Run(ctx context.Context, host plugin.Host) error {
	host.Connector(plugin.Connector{State: plugin.Up}) // how it stands with its system
	for r := range host.Requests() {                   // closed when ctx ends
		for _, t := range r.Watch {
			host.Subscription(plugin.Subscription{Presentity: t.Presentity, State: plugin.Active})
			host.Claim(plugin.Claim{Presentity: t.Presentity, Availability: plugin.Busy})
		}
		for _, p := range r.Unwatch {
			s.forget(p)
		}
	}
	return nil
}

func (*source) forget(string) {}

// TestAuthoring: a source of AUTHORING.md's snippets, as they stand, passes the suite.
func TestAuthoring(t *testing.T) {
	t.Parallel()
	plugintest.Run(t, plugintest.Options{
		Source: func() plugin.Source { return &source{} }, Quiet: 100 * time.Millisecond,
		Config:     map[string]any{"server": "127.0.0.1"},
		BadConfigs: []plugintest.BadConfig{{Config: map[string]any{"server": "a", "backup": "a"}, Key: "backup"}},
		Watch:      []plugintest.Watched{{Presentity: "sip:alice@example.com", State: plugin.Active, Availability: plugin.Busy}},
		Trigger:    func() { /* make Alice's state change in your system */ },
	})
	h := plugintest.Start(t, &source{}, map[string]any{"server": "127.0.0.1"})
	h.Watch("sip:alice@example.com")
	if c := h.NextClaim(); c.Availability != plugin.Busy {
		t.Errorf("she is %+v, and not busy", c)
	}
}

// TestAuthoringSnippets: each line of Go in AUTHORING.md stands in this file, or in the
// template's test, and so compiles.
func TestAuthoringSnippets(t *testing.T) {
	var code strings.Builder
	for _, name := range []string{"authoring_test.go", "template/main_test.go"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(b)
	}
	text, err := os.ReadFile("AUTHORING.md")
	if err != nil {
		t.Fatal(err)
	}
	spaces := regexp.MustCompile(`\s+`)
	compiled := spaces.ReplaceAllString(code.String(), " ")
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) < 4 {
		t.Fatalf("%d snippets were found", len(blocks))
	}
	for _, block := range blocks {
		for line := range strings.Lines(string(block[1])) {
			line = strings.TrimSpace(spaces.ReplaceAllString(line, " "))
			if !strings.Contains(compiled, line) && !strings.HasPrefix(line, "func TestContract(") && line != "plugintest.Run(t, plugintest.Options{" {
				t.Errorf("AUTHORING.md has a line that nothing compiles: %s", line)
			}
		}
	}
}
