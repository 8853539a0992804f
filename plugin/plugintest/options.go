// Package plugintest puts a source to the test: [Run] and [Check] hold a program of any
// language to the contract (proto/v1), and [Start] lets a unit test play the host.
package plugintest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/busylamp/busylamp/plugin"
)

// Options say what is tested, and what it may be asked.
type Options struct {
	// Command is the program and its arguments, with absolute paths: it is started in
	// another directory. Without Command and Source it is the test's own binary: see [Main].
	Command []string
	// NoMTLS is for a program that cannot secure its connection as go-plugin's AutoMTLS wants.
	NoMTLS bool
	// Source makes the source within the test's process instead. What belongs to processes
	// is not tested then.
	Source func() plugin.Source

	// Config is a section of the configuration that must be accepted, of what JSON can
	// hold; nil: an empty one.
	Config any
	// BadConfigs are sections that must not be.
	BadConfigs []BadConfig
	// Watch are presentities that the source can serve with Config, and what it must say of
	// them; the first few are used most. None: a made-up one.
	Watch []Watched
	// Presentity makes up the i-th presentity that the source can be asked to watch and knows
	// nothing of. It is needed only where Description.Serves is narrow.
	Presentity func(i int) string
	// Trigger makes the state of Watch[0] change in the source's system.
	Trigger func()

	Answer time.Duration // how long an answer may take; 0: 5 s
	Quiet  time.Duration // how long silence is listened to; 0: 1 s
}

// BadConfig is a section that the source must refuse, with a problem of the key.
type BadConfig struct {
	Config any
	Key    string
}

// Watched is a presentity and what the source must come to say of it.
type Watched struct {
	Presentity   string
	State        plugin.SubscriptionState // 0: any
	Availability plugin.Availability      // Unknown: any, or nothing at all
}

// Finding is a fault of the source: what the contract wants, and what was seen instead.
type Finding struct {
	Check string // the name of the part of the suite
	Text  string
}

func (f Finding) String() string { return f.Check + ": " + f.Text }

const (
	starting = 10 * time.Second // from start to handshake: what the host gives
	ending   = 5 * time.Second  // from the end of the stream, or of the host
	checking = 2 * time.Minute  // one check at most
)

func (o Options) withDefaults() Options {
	if o.Answer == 0 {
		o.Answer = 5 * time.Second
	}
	if o.Quiet == 0 {
		o.Quiet = time.Second
	}
	return o
}

// Main is a TestMain for a package that holds a source's main: the test's own binary is the
// source when it is started as one.
//
//	func TestMain(m *testing.M) { plugintest.Main(m, main) }
func Main(m *testing.M, main func()) {
	if os.Getenv(plugin.Handshake.MagicCookieKey) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// Run holds a source to the contract, a subtest for each part of it.
func Run(t *testing.T, o Options) {
	o = o.withDefaults()
	for _, c := range checks {
		if c.process && o.Source != nil {
			continue
		}
		ok := t.Run(c.name, func(t *testing.T) {
			for _, f := range c.find(t.Context(), o) {
				t.Error(f.Text)
			}
		})
		if !ok && c.first {
			t.Fatal("the rest cannot be tested")
		}
	}
}

// Check holds a source to the contract and returns what it does wrong. It ends early when
// ctx does.
func Check(ctx context.Context, o Options) []Finding {
	o = o.withDefaults()
	var out []Finding
	for _, c := range checks {
		if c.process && o.Source != nil {
			continue
		}
		if ctx.Err() != nil {
			return append(out, Finding{c.name, "not tested: " + ctx.Err().Error()})
		}
		found := c.find(ctx, o)
		out = append(out, found...)
		if len(found) > 0 && c.first {
			break
		}
	}
	return out
}

// section returns a configuration as a mapping that can be changed.
func section(config any) (map[string]any, error) {
	out := map[string]any{}
	if config == nil {
		return out, nil
	}
	b, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("plugintest: Config: %w", err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("plugintest: Config is no section: %w", err)
	}
	return out, nil
}
