package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/busylamp/busylamp/adapters/pluginhost"
	"github.com/busylamp/busylamp/plugin"
)

// newPluginCommand returns `busylamp plugin`. path is the configuration file's, which -c sets.
func newPluginCommand(path *string, environ []string, stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{Use: "plugin", Short: "Look after the plugins that are sources"}
	root.PersistentFlags().StringVarP(path, "config", "c", *path, "configuration file, also BUSYLAMP_CONFIG")
	var admin string
	withAdmin := func(c *cobra.Command) *cobra.Command {
		c.Flags().StringVar(&admin, "admin", "", "host:port of the sidecar's HTTP interface (default: the configuration's)")
		return c
	}
	// named is a command about one source, or all of them.
	named := func(use, short string, run func(name string) int) *cobra.Command {
		return &cobra.Command{Use: use + " [NAME]", Short: short, Args: cobra.MaximumNArgs(1),
			RunE: func(_ *cobra.Command, args []string) error { return exit(run(strings.Join(args, ""))) }}
	}
	root.AddCommand(
		withAdmin(&cobra.Command{Use: "list", Short: "Show the sources with their plugins, and how these do", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return exit(pluginList(admin, *path, environ, stdout, stderr)) }}),
		named("check", "Start each source's plugin, have it look at its configuration, and end it",
			func(name string) int { return pluginCheck(name, *path, environ, stdout, stderr) }),
		named("pin", "Write the sha256 of each source's plugin into the configuration file",
			func(name string) int { return pluginPin(name, *path, environ, stdout, stderr) }),
		withAdmin(&cobra.Command{Use: "restart NAME", Short: "Have the running sidecar start a source's plugin anew", Args: cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error {
				return exit(pluginRestart(args[0], admin, *path, environ, stdout, stderr))
			}}),
	)
	return root
}

// chosen returns the places of the sources that a name names: "" for all.
func chosen(c config, name string) ([]int, error) {
	var places []int
	names := make([]string, 0, len(c.Sources))
	for i, s := range c.Sources {
		names = append(names, s.Name)
		if name == "" || name == s.Name {
			places = append(places, i)
		}
	}
	switch {
	case len(names) == 0:
		return nil, fmt.Errorf("no sources are configured: see sources.yaml for how to")
	case places != nil:
		return places, nil
	}
	if meant := nearest(name, names); meant != "" {
		return nil, fmt.Errorf("source %s is not configured: did you mean %s?", quote(name), meant)
	}
	return nil, fmt.Errorf("source %s is not configured: there are %s", quote(name), strings.Join(names, ", "))
}

// pluginCheck has plugins look at their sections, and returns the exit code.
func pluginCheck(name, path string, environ []string, stdout, stderr io.Writer) int {
	cfg, p := read(path, environ)
	p.validate(&cfg)
	places, err := chosen(cfg, name)
	if p.err() == nil && err == nil {
		err = inspectSome(p, cfg, places, stdout)
	}
	switch {
	case p.err() != nil:
		fmt.Fprintln(stderr, p.err())
	case err != nil:
		fmt.Fprintf(stderr, "%s: %v\n", path, err)
	default:
		return 0
	}
	return 1
}

// inspectSome starts some sources' plugins, has them look at their sections, and ends them.
func inspectSome(p *problems, cfg config, places []int, stdout io.Writer) error {
	cfgs, err := hostConfigs(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	for _, i := range places {
		ctx, cancel := context.WithTimeout(context.Background(), inspectTime)
		d, endpoints, err := pluginhost.Inspect(ctx, cfgs[i])
		cancel()
		p.refused(entry("sources", i), err)
		if err == nil {
			fmt.Fprintf(stdout, "%s: ok: %s\n", cfgs[i].Name, described(d, endpoints))
		}
	}
	return nil
}

// described is what a plugin says of itself, in one line.
func described(d plugin.Description, endpoints []string) string {
	line := strings.TrimSpace(d.Name + " " + d.Version)
	if d.Summary != "" {
		line += ": " + d.Summary
	}
	if len(endpoints) > 0 {
		line += "; subscribes by " + strings.Join(endpoints, ", then ")
	}
	return line
}

// pluginRestart asks the running sidecar, and returns the exit code.
func pluginRestart(name, admin, path string, environ []string, stdout, stderr io.Writer) int {
	admin, err := adminAddress(admin, path, environ)
	if err == nil {
		var body io.ReadCloser
		body, err = ask(context.Background(), http.MethodPost, admin, "/api/v1/sources/restart?"+url.Values{"source": {name}}.Encode())
		if err == nil {
			body.Close()
			fmt.Fprintf(stdout, "source %s: its plugin is started anew: see busylamp plugin list\n", name)
			return 0
		}
	}
	fmt.Fprintln(stderr, "busylamp: plugin restart:", err)
	return 1
}

// runningSource is what the sidecar tells of a source (see sourceJSON).
type runningSource struct {
	pluginhost.Status
	Connector string `json:"connector"`
	Reason    string `json:"reason"`
}

// maxSourcesAnswer bounds what the sidecar answers about at most 32 sources.
const maxSourcesAnswer = 4 << 20

// runningSources asks the sidecar how the sources do.
func runningSources(admin, path string, environ []string) (map[string]runningSource, error) {
	admin, err := adminAddress(admin, path, environ)
	if err != nil {
		return nil, err
	}
	body, err := ask(context.Background(), http.MethodGet, admin, "/api/v1/sources")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var answer struct{ Sources []runningSource }
	if err := json.NewDecoder(io.LimitReader(body, maxSourcesAnswer)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s does not answer as a sidecar of this version (%s) does: %w", admin, version, err)
	}
	out := make(map[string]runningSource, len(answer.Sources))
	for _, s := range answer.Sources {
		out[s.Name] = s
	}
	return out, nil
}

// pluginList shows the sources, and returns the exit code. It starts nothing: what a plugin
// says of itself is told while it runs.
func pluginList(admin, path string, environ []string, stdout, stderr io.Writer) int {
	cfg, p := read(path, environ)
	if p.err() != nil {
		fmt.Fprintln(stderr, p.err())
		return 1
	}
	cfgs, err := hostConfigs(cfg, slog.New(slog.DiscardHandler))
	if err == nil {
		_, err = chosen(cfg, "")
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", path, err)
		return 1
	}
	running, unheard := runningSources(admin, path, environ)
	table := tabwriter.NewWriter(stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tPLUGIN\tKIND\tVERSION\tCONTRACT\tSHA256\tPIN\tSTATE")
	var remarks []string
	for _, c := range cfgs {
		digest, pin, remark := pinned(c)
		row, last := liveColumns(running, c, digest)
		fmt.Fprintln(table, strings.Join([]string{c.Name, filepath.Base(c.Path), row[0], row[1], row[2], cmp.Or(short(digest), "-"), pin, row[3]}, "\t"))
		for _, r := range []string{remark, last} {
			if r != "" && !slices.Contains(remarks, c.Name+": "+r) {
				remarks = append(remarks, c.Name+": "+r)
			}
		}
	}
	table.Flush()
	for _, r := range remarks {
		fmt.Fprintln(stdout, r)
	}
	if unheard != nil {
		fmt.Fprintln(stderr, "busylamp: plugin list: how they do is not known:", unheard)
	}
	return 0
}

// pinned compares a source's file with its pin, and remarks on what keeps it from being run.
func pinned(c pluginhost.Config) (digest, pin, remark string) {
	digest, err := pluginhost.Digest(c.Path)
	if err == nil {
		err = pluginhost.Verify(c)
	}
	if err != nil {
		remark = err.Error()
	}
	switch {
	case digest == "":
		return "", "no file", remark
	case c.SHA256 == "":
		return digest, "unpinned", remark
	case !strings.EqualFold(digest, c.SHA256):
		return digest, "mismatch", remark
	}
	return digest, "pinned", remark
}

// liveColumns returns kind, version, contract and state of a source, and its last error.
func liveColumns(running map[string]runningSource, c pluginhost.Config, digest string) (row [4]string, last string) {
	s, ok := running[c.Name]
	switch {
	case running == nil:
		return [4]string{"-", "-", "-", "unknown"}, ""
	case !ok:
		return [4]string{"-", "-", "-", "not in the sidecar's configuration: reload it"}, ""
	}
	contract := "-"
	if s.Contract > 0 {
		contract = fmt.Sprint(s.Contract)
	}
	state := printable(s.State)
	if s.PID > 0 {
		state += ", " + printable(s.Connector)
		if s.Reason != "" {
			state += " (" + printable(s.Reason) + ")"
		}
		if s.Digest != digest {
			state += "; another file: reload to run this one"
		}
	}
	if s.Error != "" {
		last = "last error: " + printable(s.Error)
	}
	return [4]string{cmp.Or(printable(s.Kind), "-"), cmp.Or(printable(s.Version), "-"), contract, state}, last
}

// short is enough of a digest to tell it from another by eye.
func short(digest string) string { return digest[:min(len(digest), 12)] }
