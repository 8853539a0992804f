package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/busylamp/busylamp/plugin"
)

// source is the plugin.
type source struct{ cfg *config }

func newSource() *source { return &source{} }

// Describe says what it is.
func (s *source) Describe() plugin.Description {
	return plugin.Description{
		Name:    "sip",
		Version: version,
		Summary: "presence and calls of other SIP systems, by SUBSCRIBE and NOTIFY (RFC 6665)",
		Serves:  []string{`sips?:[^@\s]+@[^@\s]+`, `tel:\+?[0-9]+`},
		Keys:    keys,
		Batch:   1,
	}
}

// Configure takes the section. It reads files, and dials nothing.
func (s *source) Configure(c plugin.Config) error {
	cfg, err := readConfig(c)
	if err != nil {
		return err
	}
	s.cfg = cfg
	return nil
}

// Endpoints returns the accounts.
func (s *source) Endpoints() []string {
	var names []string
	for _, a := range s.cfg.accounts {
		names = append(names, a.name)
	}
	return names
}

// Run watches until ctx ends.
func (s *source) Run(ctx context.Context, host plugin.Host) error {
	out := newOutbox()
	var speaking sync.WaitGroup
	defer speaking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	speaking.Go(func() { out.run(ctx, host) })
	return newWatcher(s.cfg, out, slog.Default()).run(ctx, host.Requests())
}
