package plugintest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/busylamp/busylamp/plugin"
	"github.com/busylamp/busylamp/plugin/plugintest"
)

var bad struct {
	once sync.Once
	path string
	err  error
}

// TestMain removes what build has made.
func TestMain(m *testing.M) {
	code := m.Run()
	if bad.path != "" {
		_ = os.RemoveAll(filepath.Dir(bad.path))
	}
	os.Exit(code)
}

// build makes the bad source, without the race detector: it is started some hundred times.
func build(t *testing.T) string {
	t.Helper()
	bad.once.Do(func() {
		dir, err := os.MkdirTemp("", "plugintest")
		if err != nil {
			bad.err = err
			return
		}
		bad.path = filepath.Join(dir, "bad")
		out, err := exec.Command("go", "build", "-o", bad.path, "./internal/bad").CombinedOutput()
		if err != nil {
			bad.err = fmt.Errorf("go build: %w: %s", err, out)
		}
	})
	if bad.err != nil {
		t.Fatal(bad.err)
	}
	return bad.path
}

// options are those of the bad source.
func options(t *testing.T, mode string) plugintest.Options {
	t.Helper()
	return plugintest.Options{
		Command: []string{build(t), mode},
		Config:  map[string]any{"level": 1, "password": "sesame"},
		BadConfigs: []plugintest.BadConfig{
			{Config: map[string]any{"level": "high"}, Key: "level"},
		},
		Watch: []plugintest.Watched{
			{Presentity: "sip:alice@example.com", State: plugin.Active, Availability: plugin.Busy},
			{Presentity: "sip:bob@example.com"},
		},
		Answer: 5 * time.Second, Quiet: 300 * time.Millisecond,
	}
}

// TestGood shows that the suite finds nothing where nothing is wrong.
func TestGood(t *testing.T) {
	t.Parallel()
	plugintest.Run(t, options(t, "good"))
}

// faults are what the suite must say of each bad source.
var faults = map[string]struct {
	checks string // those that may find it
	text   string // part of one of the findings
}{
	"version":      {"start", "of contract version 1: "},
	"garbage":      {"start", "Welcome to my presence source!"},
	"regexp":       {"describe", "regular expressions of RE2"},
	"unmarked":     {"describe", "password is not"},
	"hang":         {"configure", "Configure must answer within 5s, and has not"},
	"lenient":      {"unknown-key", "an unknown key must be refused: it was accepted"},
	"leaky":        {"unknown-key", "a problem must show no secret"},
	"revealing":    {"wrong-type", "a problem must show no secret, of a wrong type or not: that of password does"},
	"lax":          {"required-key", "without the required level must be refused"},
	"mute":         {"watch", "must be answered by a subscription within 5s"},
	"unconnected":  {"watch", "by a connector how it stands"},
	"strangers":    {"watch", "nobody has asked for \"sip:somebody@example.com\""},
	"unserved":     {"watch", "must be of a presentity that serves matches: \"sip:a@elsewhere.invalid\""},
	"forever":      {"watch", "until must be within a day"},
	"backwards":    {"watch", "until must not come before its since"},
	"past":         {"watch", "until must not be past"},
	"gullible":     {"odd-messages", "serves matches: \"mailto:nobody@plugintest.invalid\""},
	"availability": {"watch", "availability must be one of the contract's"},
	"state":        {"watch", "must have a state of the contract's"},
	"sequence":     {"watch-again one-run interrupt", "sequence must not go back: "},
	"once":         {"watch-again", "must be told of anew"},
	"keeps":        {"unwatch many", "must not come after an unwatch: \"sip:alice@example.com\""},
	"crash":        {"many", "panic: so many"},
	"fragile":      {"odd-messages", "panic: who?"},
	"twice":        {"one-run", "a second Run beside the first must be refused"},
	"chatty":       {"end", "nothing must come to standard output after the handshake"},
	"deaf":         {"end", "must end within 5s of the end of the stream"},
	"orphan":       {"orphan", "must end within 5s of its host's death"},
	"large":        {"watch", "a message may have 1 MiB"},
}

// TestBad shows that the suite finds each fault, by name, and no other.
func TestBad(t *testing.T) {
	t.Parallel()
	found := map[string]chan []plugintest.Finding{}
	slots := make(chan struct{}, 10) // most of the time passes by waiting
	for mode := range faults {
		out := make(chan []plugintest.Finding, 1)
		found[mode] = out
		o := options(t, mode)
		o.NoMTLS = true // TestGood has it
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			out <- plugintest.Check(t.Context(), o)
		}()
	}
	for mode, want := range faults {
		t.Run(mode, func(t *testing.T) {
			named, findings := false, <-found[mode]
			for _, f := range findings {
				named = named || strings.Contains(f.Text, want.text)
				if !slices.Contains(strings.Fields(want.checks), f.Check) {
					t.Errorf("a finding elsewhere: %s", f)
				}
			}
			if !named {
				t.Errorf("no finding names the fault (%q): %q", want.text, findings)
			}
		})
	}
}
