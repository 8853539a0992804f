package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/pidf"
	"github.com/busylamp/busylamp/adapters/pluginhost"
)

// hostConfigs returns the plugins to be run, in the order of the sources.
func hostConfigs(c config, log *slog.Logger) ([]pluginhost.Config, error) {
	out := make([]pluginhost.Config, 0, len(c.Sources))
	for _, s := range c.Sources {
		text := []byte("{}")
		if s.Config != nil {
			var err error
			if text, err = json.Marshal(map[string]any(s.Config)); err != nil {
				return nil, fmt.Errorf("source %s: config: %w", s.Name, err)
			}
		}
		out = append(out, pluginhost.Config{Name: s.Name, Path: filepath.Join(c.Plugins.Dir, s.Plugin), SHA256: s.SHA256,
			AllowUnpinned: c.Plugins.AllowUnpinned, MTLS: s.MTLS == "on", Settings: text, OwnTuples: c.ownTuples(), Log: log.With("source", s.Name)})
	}
	return out, nil
}

// sourceAt is the plugin at a place of the present configuration.
type sourceAt struct {
	plugins *pluginhost.Host
	place   int
}

// Watch is part of busylamp.Source.
func (s sourceAt) Watch(w busylamp.WatchWork) { s.plugins.Source(s.place).Watch(w) }

// ownTuples returns the ids of the PIDF tuples that we publish.
func (c config) ownTuples() []string {
	var out []string
	for _, p := range c.Publishers {
		id := p.TupleID
		if id == "" {
			id = pidf.DefaultTupleID(p.Profile == "audiocodes")
		}
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// addSources tells the engine's configuration of the sources, and of what folds with them.
func addSources(engine *busylamp.Config, c config, d *directory) error {
	for _, s := range c.Sources {
		engine.Sources = append(engine.Sources, busylamp.SourceConfig{Name: s.Name, Priority: s.Priority, PerSecond: s.PerSecond,
			FailedDelay: s.FailedDelay, MaxFailedDelay: s.MaxFailedDelay, MaxFailures: s.MaxFailed, Grace: s.Grace, Reads: s.SameSystemAs})
	}
	for _, e := range c.Endpoints {
		busy := busylamp.EndpointConfig{Presentity: busylamp.Presentity(e.Presentity), BusyAt: e.BusyAt}
		if e.State != callsSource {
			busy.State = stateNamed(e.State)
		}
		engine.Endpoints = append(engine.Endpoints, busy)
	}
	rules, err := newSpeakers(c.Rules)
	if err != nil {
		return err
	}
	if rules != nil {
		engine.Speaks = func(who busylamp.Presentity) []string { return rules.of(who, d.UPN(who)) }
	}
	engine.UPN, engine.Preferred = d.UPN, c.Preferred
	engine.Precedence, engine.Shown = c.table()
	return nil
}

// table returns the precedence of states, and what they are published as.
func (c config) table() (order busylamp.Precedence, shown map[busylamp.State]busylamp.State) {
	for _, name := range c.Order {
		order = append(order, stateNamed(name))
	}
	if order == nil {
		order = busylamp.DefaultPrecedence()
	}
	if c.Forwarded == "state" && !slices.Contains(order, busylamp.Forwarded) {
		order = slices.Insert(order, slices.Index(order, busylamp.DoNotDisturb)+1, busylamp.Forwarded)
	}
	shown = make(map[busylamp.State]busylamp.State, len(c.ShownAs))
	for name, as := range c.ShownAs {
		shown[stateNamed(name)] = stateNamed(as)
	}
	// A call is a call, whoever sees it, unless they are told apart.
	if as, ok := shown[busylamp.OnThePhone]; ok && c.ShownAs[busylamp.OtherCall.String()] == "" {
		shown[busylamp.OtherCall] = as
	}
	return order, shown
}

// stateNamed returns a state that validate has checked, Unknown for "nothing".
func stateNamed(name string) (s busylamp.State) {
	if s.UnmarshalText([]byte(name)) != nil {
		return busylamp.Unknown
	}
	return s
}
