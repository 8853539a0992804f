// Command busylamp is a presence sidecar for the Kamailio SIP proxy.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// version is set by the Makefile.
var version = "dev"

func main() {
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// failure is an error that has been told to the user already.
type failure int

func (failure) Error() string { return "failed" }

// run is main with everything passed in. It returns the exit code.
func run(args, environ []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "busylamp",
		Short:         "Presence for users in calls: a sidecar for the Kamailio SIP proxy",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	path := defaultPath
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, "BUSYLAMP_CONFIG="); ok {
			path = v
		}
	}
	withConfig := func(c *cobra.Command) *cobra.Command {
		c.Flags().StringVarP(&path, "config", "c", path, "configuration file, also BUSYLAMP_CONFIG")
		c.Args = cobra.NoArgs
		return c
	}
	opts := traceOptions{}
	withAdmin := func(c *cobra.Command) {
		c.Flags().StringVar(&opts.admin, "admin", "", "host:port of the sidecar's HTTP interface (default: the configuration's)")
	}
	var proxy string
	resyncCommand := withConfig(&cobra.Command{
		Use: "resync", Short: "Have the running sidecar compare its calls with the proxies' lists now",
		RunE: func(*cobra.Command, []string) error {
			return exit(resync(proxy, opts.admin, path, environ, stdout, stderr))
		},
	})
	withAdmin(resyncCommand)
	resyncCommand.Flags().StringVar(&proxy, "proxy", "", "the name of one proxy (default: all)")
	traceCommand := withConfig(&cobra.Command{
		Use: "trace PRESENTITY", Short: "Show the SIP messages about one presentity as they come",
		RunE: func(_ *cobra.Command, args []string) error {
			opts.presentity = args[0]
			return exit(trace(opts, path, environ, stdout, stderr))
		},
	})
	traceCommand.Args = cobra.ExactArgs(1)
	withAdmin(traceCommand)
	traceCommand.Flags().StringVar(&opts.publisher, "publisher", "", "the name of one publisher (default: all)")
	traceCommand.Flags().DurationVar(&opts.life, "for", traceTime, "how long, 1s to 24h")
	root.AddCommand(
		newPluginCommand(&path, environ, stdout, stderr),
		traceCommand,
		resyncCommand,
		withConfig(&cobra.Command{
			Use: "run", Short: "Run in the foreground until SIGTERM or SIGINT; SIGHUP reloads the configuration",
			RunE: func(*cobra.Command, []string) error { return exit(serve(path, environ, stderr)) },
		}),
		withConfig(&cobra.Command{
			Use: "check", Short: "Validate the configuration",
			RunE: func(*cobra.Command, []string) error { return exit(check(path, environ, stdout, stderr)) },
		}),
		&cobra.Command{
			Use: "version", Short: "Print the version", Args: cobra.NoArgs,
			Run: func(*cobra.Command, []string) { fmt.Fprintln(stdout, versionLine()) },
		},
	)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	var failed failure
	switch {
	case err == nil:
		return 0
	case errors.As(err, &failed):
		return int(failed)
	default:
		fmt.Fprintf(stderr, "busylamp: %v\n", err)
		return 2
	}
}

// defaultPath is the configuration file where none is named.
const defaultPath = "/etc/busylamp/busylamp.yaml"

func exit(code int) error {
	if code == 0 {
		return nil
	}
	return failure(code)
}

func versionLine() string {
	line := "busylamp " + version
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				line += " (" + s.Value[:12] + ")"
			}
		}
		line += " " + info.GoVersion
	}
	return line
}
