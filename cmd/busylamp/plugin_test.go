package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/busylamp/busylamp/adapters/pluginhost"
	"github.com/busylamp/busylamp/plugin"
)

// The test program is a plugin, too, when a host starts it.
func init() {
	if os.Getenv(plugin.Handshake.MagicCookieKey) != "" {
		plugin.Serve(testSource{})
	}
}

type testSource struct{}

// Describe is part of plugin.Source.
func (testSource) Describe() plugin.Description {
	return plugin.Description{Name: "test", Version: "1.2", Summary: "nobody's presence",
		Keys: []plugin.Key{{Name: "server", Doc: "a host"}, {Name: "tls.verify", Doc: "x"}}}
}

// Configure is part of plugin.Source.
func (testSource) Configure(c plugin.Config) error {
	var s struct {
		Server string `yaml:"server"`
		TLS    struct {
			Verify string `yaml:"verify"`
		} `yaml:"tls"`
	}
	if err := c.Decode(&s); err != nil {
		return err
	}
	if s.Server == "bad" {
		return errors.Join(plugin.Problem{Key: "server", Text: `"bad" is no host: write a name`},
			plugin.Problem{Key: "tls.verify", Text: "is missing: write on"})
	}
	return nil
}

// Endpoints is part of plugin.Endpoints.
func (testSource) Endpoints() []string { return []string{"application", "user"} }

// Run is part of plugin.Source.
func (testSource) Run(ctx context.Context, _ plugin.Host) error {
	<-ctx.Done()
	return nil
}

// pluginRun runs `busylamp plugin`.
func pluginRun(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	path := defaultPath
	root := &cobra.Command{SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(newPluginCommand(&path, environ, &out, &errs))
	root.SetArgs(append([]string{"plugin"}, args...))
	err := root.Execute()
	var failed failure
	if errors.As(err, &failed) {
		return int(failed), out.String(), errs.String()
	} else if err != nil {
		return 2, out.String(), err.Error()
	}
	return 0, out.String(), errs.String()
}

// pluginDir returns a plugins.dir with the test program in it as test-source.
func pluginDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "plugins")
	self, err := os.Executable()
	if err == nil {
		err = os.Mkdir(dir, 0o755)
	}
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err == nil {
		err = os.Chmod(filepath.Dir(dir), 0o755)
	}
	if err == nil {
		err = os.Link(self, filepath.Join(dir, "test-source"))
		if errors.Is(err, syscall.EXDEV) {
			var text []byte
			if text, err = os.ReadFile(self); err == nil {
				err = os.WriteFile(filepath.Join(dir, "test-source"), text, 0o755)
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// baseConfig is a configuration without sources.
const baseConfig = "kamailio: [{name: p, evapi: 127.0.0.1:8448, rpc: http://127.0.0.1:5060/RPC}]\ndomains: [example.com]\n" +
	"publishers: [{name: s, server: sip:127.0.0.1}]\n"

// configFile writes a configuration with a plugins.dir.
func configFile(t *testing.T, dir, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "busylamp.yaml")
	if err := os.WriteFile(path, []byte(baseConfig+"plugins: {dir: "+dir+"}\n"+text), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPluginCheck: the plugin itself looks at its section; what is wrong is told with file,
// line and key.
func TestPluginCheck(t *testing.T) {
	dir := pluginDir(t)
	digest, err := pluginhost.Digest(filepath.Join(dir, "test-source"))
	if err != nil {
		t.Fatal(err)
	}
	sources := func(good, bad string) string {
		return fmt.Sprintf("sources:\n  - name: good\n    plugin: test-source\n    sha256: %q\n"+
			"  - name: other\n    plugin: test-source\n    sha256: %q\n    config:\n      server: %s\n      tls:\n        verify: \"\"\n", good, digest, bad)
	}
	path := configFile(t, dir, sources(digest, "bad"))
	code, stdout, stderr := pluginRun(t, nil, "check", "-c", path)
	if want := path + `:13: sources[1].config.server: "bad" is no host: write a name`; code != 1 || !strings.Contains(stderr, want) ||
		!strings.Contains(stderr, path+":14: sources[1].config.tls.verify: is missing: write on") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if want := "good: ok: test 1.2: nobody's presence; subscribes by application, then user\n"; stdout != want {
		t.Errorf("it says %q", stdout)
	}
	for _, c := range []struct {
		args   []string
		text   string
		code   int
		stdout string
		stderr string
	}{
		{args: []string{"good"}, text: sources(digest, "bad"), stdout: "good: ok"},
		{text: sources(digest, "fine"), stdout: "other: ok"},
		{args: []string{"god"}, text: sources(digest, "fine"), code: 1, stderr: `source "god" is not configured: did you mean good?`},
		{args: []string{"nothing-like"}, text: sources(digest, "fine"), code: 1, stderr: "there are good, other"},
		{text: sources(strings.Repeat("a", 64), "fine"), code: 1, stderr: "sources[0].plugin: sha256 of " + dir + "/test-source is " + digest},
		{text: sources("", "fine"), code: 1, stderr: "sources[0].sha256: missing: have it written by: busylamp plugin pin good"},
		{text: "", code: 1, stderr: "no sources are configured"},
		{text: "sauces: 1\n", code: 1, stderr: "sauces"},
	} {
		path := configFile(t, dir, c.text)
		code, stdout, stderr := pluginRun(t, nil, append([]string{"check", "-c", path}, c.args...)...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) || c.stderr == "" && stderr != "" {
			t.Errorf("%q: exit code %d\n%s%s", c.args, code, stdout, stderr)
		}
	}
}

// TestPluginList: what is on disk is shown in any case, and how it does where a sidecar
// answers.
func TestPluginList(t *testing.T) {
	dir := pluginDir(t)
	digest, err := pluginhost.Digest(filepath.Join(dir, "test-source"))
	if err != nil {
		t.Fatal(err)
	}
	path := configFile(t, dir, "sources:\n- {name: one, plugin: test-source, sha256: "+digest+"}\n- {name: two, plugin: test-source}\n"+
		"- {name: three, plugin: test-source, sha256: "+strings.Repeat("a", 64)+"}\n- {name: four, plugin: none}\n")
	fields := func(stdout string) map[string]string {
		rows := make(map[string]string)
		for line := range strings.Lines(stdout) {
			f := strings.Fields(line)
			rows[f[0]] = strings.Join(f[1:], " ")
		}
		return rows
	}
	check := func(stdout string, want map[string]string) {
		t.Helper()
		got := fields(stdout)
		for name, row := range want {
			if got[name] != row {
				t.Errorf("%s is %q, want %q\n%s", name, got[name], row, stdout)
			}
		}
	}
	code, stdout, stderr := pluginRun(t, nil, "list", "-c", path, "--admin", freeAddr(t))
	if code != 0 || !strings.Contains(stderr, "how they do is not known: no sidecar answers at") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	cut := digest[:12]
	check(stdout, map[string]string{
		"NAME": "PLUGIN KIND VERSION CONTRACT SHA256 PIN STATE",
		"one":  "test-source - - - " + cut + " pinned unknown", "two": "test-source - - - " + cut + " unpinned unknown",
		"three": "test-source - - - " + cut + " mismatch unknown", "four": "none - - - - no file unknown",
		"two:":   dir + "/test-source is not pinned: run busylamp plugin pin two, which writes its sha256 into the configuration (or set plugins.allow_unpinned: true)",
		"three:": "sha256 of " + dir + "/test-source is " + digest + ", the configuration pins " + strings.Repeat("a", 64) + ": if you have replaced it on purpose, run busylamp plugin pin three",
		"four:":  dir + "/none does not exist: put the plugin there, or correct plugins.dir and the source's plugin",
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/sources" {
			http.NotFound(w, r)
			return
		}
		writeJSON(w, map[string]any{"sources": []sourceJSON{
			{Status: pluginhost.Status{Name: "one", Kind: "test", Version: "1.2", Contract: 1, State: "running", PID: 5, Digest: digest}, Connector: "connection error", Reason: "no route"},
			{Status: pluginhost.Status{Name: "two", State: "restarting in 4s", Error: "the process ended"}, Connector: "starting"},
			{Status: pluginhost.Status{Name: "three", Kind: "test", Version: "1.1", Contract: 1, State: "running", PID: 6, Digest: "0"}, Connector: "up and running"},
		}})
	}))
	defer server.Close()
	code, stdout, stderr = pluginRun(t, nil, "list", "-c", path, "--admin", strings.TrimPrefix(server.URL, "http://"))
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	check(stdout, map[string]string{
		"one":   "test-source test 1.2 1 " + cut + " pinned running, connection error (no route)",
		"two":   "test-source - - - " + cut + " unpinned restarting in 4s",
		"three": "test-source test 1.1 1 " + cut + " mismatch running, up and running; another file: reload to run this one",
		"four":  "none - - - - no file not in the sidecar's configuration: reload it",
	})
	if !strings.Contains(stdout, "two: last error: the process ended\n") {
		t.Error(stdout)
	}
}

// TestPluginRestart: the command reaches the sidecar, and its errors say what to do.
func TestPluginRestart(t *testing.T) {
	asked := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked = r.Method + " " + r.URL.String(); r.URL.Query().Get("source") != "one two" {
			http.Error(w, `source "x" is not configured`, http.StatusNotFound)
		}
	}))
	defer server.Close()
	admin := strings.TrimPrefix(server.URL, "http://")
	code, stdout, stderr := pluginRun(t, nil, "restart", "one two", "--admin", admin)
	if code != 0 || asked != "POST /api/v1/sources/restart?source=one+two" || !strings.Contains(stdout, "is started anew") {
		t.Errorf("exit code %d, asked for %q\n%s%s", code, asked, stdout, stderr)
	}
	if code, _, stderr := pluginRun(t, nil, "restart", "x", "--admin", admin); code != 1 || stderr != "busylamp: plugin restart: source \"x\" is not configured\n" {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if code, _, stderr := pluginRun(t, nil, "restart"); code != 2 || !strings.Contains(stderr, "accepts 1 arg") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}
