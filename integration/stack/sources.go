package stack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// SourceConfig is an entry of busylamp's sources. Zero values are left to its defaults.
type SourceConfig struct {
	Name, Plugin   string
	SHA256         string // "": of the plugin as it is now
	MTLS           string
	Grace          time.Duration
	Priority       int
	PerSecond      int
	FailedDelay    time.Duration
	MaxFailedDelay time.Duration
	SameSystemAs   []string
	Config         map[string]any
}

// yaml writes the entries' part of the configuration file; dir is where the plugins are.
func sourcesYAML(dir string, sources []SourceConfig) string {
	var b strings.Builder
	fmt.Fprintf(&b, "plugins: {dir: %s}\nsources:\n", dir)
	for _, c := range sources {
		fmt.Fprintf(&b, "  - name: %s\n    plugin: %s\n", c.Name, c.Plugin)
		option := func(key string, value any, set bool) {
			if set {
				fmt.Fprintf(&b, "    %s: %v\n", key, value)
			}
		}
		if c.SHA256 == "" {
			c.SHA256, _ = Pin(filepath.Join(dir, c.Plugin)) // where there is none, busylamp says so
		}
		option("sha256", c.SHA256, c.SHA256 != "")
		option("mtls", c.MTLS, c.MTLS != "")
		option("grace", c.Grace, c.Grace > 0)
		option("priority", c.Priority, c.Priority > 0)
		option("max_subscriptions_per_second", c.PerSecond, c.PerSecond > 0)
		option("failed_subscription_delay", c.FailedDelay, c.FailedDelay > 0)
		option("max_failed_subscription_delay", c.MaxFailedDelay, c.MaxFailedDelay > 0)
		option("same_system_as", "["+strings.Join(c.SameSystemAs, ", ")+"]", c.SameSystemAs != nil)
		if c.Config != nil {
			text, _ := json.Marshal(c.Config) // which is YAML, too
			option("config", string(text), true)
		}
	}
	return b.String()
}

// Plugins returns the stack's folder of plugins.
func (s *Stack) Plugins() (string, error) {
	dir := filepath.Join(s.Dir, "plugins")
	return dir, os.MkdirAll(dir, 0o755)
}

// Plugin builds a package of the module, such as ./plugin/template, as a plugin of that name,
// in the place of an earlier one. version is the program's (main.version), "" for its own.
func (s *Stack) Plugin(ctx context.Context, pkg, name, version string) error {
	root, err := Root()
	if err != nil {
		return err
	}
	dir, err := s.Plugins()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	file := filepath.Join(dir, name)
	args := []string{"build", "-o", file + ".new"}
	if version != "" {
		args = append(args, "-ldflags", "-X main.version="+version)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building plugin %s: %w\n%s", name, err, strings.TrimSpace(string(out)))
	}
	return os.Rename(file+".new", file) // one that runs cannot be written over
}

// Source is an entry of /api/v1/sources.
type Source struct {
	Name, State, Connector, Version string
	LastError                       string `json:"last_error"`
	PID, Restarts, Waiting, Claims  int
	Subscriptions                   map[string]int // by their state in words
}

// Sources asks how the sources stand, by their names.
func (b *Sidecar) Sources(ctx context.Context) (map[string]Source, error) {
	text, err := b.get(ctx, "/api/v1/sources")
	if err != nil {
		return nil, err
	}
	var reply struct{ Sources []Source }
	if err := json.Unmarshal([]byte(text), &reply); err != nil {
		return nil, err
	}
	byName := make(map[string]Source, len(reply.Sources))
	for _, src := range reply.Sources {
		byName[src.Name] = src
	}
	return byName, nil
}

// RestartSource has a source's plugin started anew.
func (b *Sidecar) RestartSource(ctx context.Context, name string) error {
	return b.post(ctx, "/api/v1/sources/restart?source="+name)
}

// Claim is what one source says of a presentity.
type Claim struct {
	Source, Status, Reason, State, Activity, Note string
	Echo                                          bool
	Lapses                                        time.Time
}

// Look asks how a presentity is. One that nothing is known of has the state "".
func (b *Sidecar) Look(ctx context.Context, presentity string) (Presentity, error) {
	text, err := b.get(ctx, "/api/v1/presentities?presentity="+presentity)
	if err != nil {
		return Presentity{}, err
	}
	var reply struct{ Presentities []Presentity }
	if err := json.Unmarshal([]byte(text), &reply); err != nil || len(reply.Presentities) == 0 {
		return Presentity{}, err
	}
	return reply.Presentities[0], nil
}

// Claim returns what a source says of the presentity, the zero value for nothing.
func (p Presentity) Claim(source string) Claim {
	for _, c := range p.Sources {
		if c.Source == source {
			return c
		}
	}
	return Claim{}
}

// Pin returns the sha256 of a file, in hexadecimal.
func Pin(path string) (string, error) {
	text, err := os.ReadFile(path)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), err
}
