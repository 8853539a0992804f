package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/busylamp/busylamp/adapters/pluginhost"
	"github.com/busylamp/busylamp/plugin"
)

// check validates a configuration, the plugins' sections by the plugins themselves, and
// returns the exit code.
func check(path string, environ []string, stdout, stderr io.Writer) int {
	cfg, p := read(path, environ)
	p.validate(&cfg)
	if p.err() == nil {
		all, _ := chosen(cfg, "")
		p.inspect(cfg, all, func(int, plugin.Description, []string, error) {})
	}
	if err := p.err(); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	fmt.Fprintf(stdout, "%s: ok: %s\n", path, cfg.summary())
	return 0
}

// inspectTime bounds what one plugin may take to describe itself and to be configured.
const inspectTime = 20 * time.Second

// inspect starts the plugins of some sources, has each look at its section, and ends it; told
// is told what came of it.
func (p *problems) inspect(c config, places []int, told func(source int, d plugin.Description, endpoints []string, err error)) {
	cfgs, err := hostConfigs(c, slog.New(slog.DiscardHandler))
	if err != nil {
		p.add("sources", err.Error())
		return
	}
	for _, i := range places {
		ctx, cancel := context.WithTimeout(context.Background(), inspectTime)
		d, endpoints, err := pluginhost.Inspect(ctx, cfgs[i])
		cancel()
		p.refused(entry("sources", i), err)
		told(i, d, endpoints, err)
	}
}

// refused reports why a plugin cannot run, by the keys that it names.
func (p *problems) refused(at string, err error) {
	var bad *pluginhost.ConfigError
	switch {
	case errors.As(err, &bad):
		for _, problem := range bad.Problems {
			here := child(at, "config")
			for key := range strings.SplitSeq(problem.Key, ".") {
				if key != "" {
					here = child(here, key)
				}
			}
			p.add(here, problem.Text)
		}
	case err != nil:
		p.add(child(at, "plugin"), err.Error())
	}
}
