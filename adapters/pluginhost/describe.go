package pluginhost

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/plugin"
	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// ConfigError is what a plugin finds wrong with its section of the configuration.
type ConfigError struct {
	Problems []plugin.Problem // at least one; their keys are of the source's section
}

func (e *ConfigError) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		lines = append(lines, p.Error())
	}
	return strings.Join(lines, "; ")
}

// describe asks the process what it is.
func (p *process) describe(ctx context.Context) error {
	d, err := p.source.Describe(ctx, &pluginv1.DescribeRequest{})
	if err != nil {
		return fmt.Errorf("describe: %w", err)
	}
	if len(d.GetServes()) > maxServes || len(d.GetKeys()) > maxKeys {
		return refuse("it describes itself by %d expressions and %d keys: at most %d and %d are possible",
			len(d.GetServes()), len(d.GetKeys()), maxServes, maxKeys)
	}
	p.description = plugin.Description{Name: clean(d.GetName(), 64), Version: clean(d.GetVersion(), 64),
		Summary: clean(d.GetSummary(), maxText), Batch: int(min(max(d.GetBatch(), 1), maxBatch)), Unasked: d.GetUnasked()}
	for _, k := range d.GetKeys() {
		p.description.Keys = append(p.description.Keys, plugin.Key{Name: clean(k.GetName(), 128), Doc: clean(k.GetDoc(), maxText),
			Default: clean(k.GetDefault(), maxText), Required: k.GetRequired(), Secret: k.GetSecret()})
	}
	for _, s := range d.GetServes() {
		if len(s) > maxPattern {
			return refuse("it serves by an expression of %d bytes: at most %d are possible", len(s), maxPattern)
		}
		re, err := regexp.Compile("^(?:" + s + ")$")
		if err != nil {
			return refuse("it serves %s, which is no regular expression (RE2): %w", shown(s), err)
		}
		p.description.Serves = append(p.description.Serves, s)
		p.serves = append(p.serves, re)
	}
	return nil
}

// configure hands the source's own section over.
func (p *process) configure(ctx context.Context, cfg Config) error {
	settings := string(cfg.Settings)
	if settings == "" {
		settings = "{}"
	}
	r, err := p.source.Configure(ctx, &pluginv1.ConfigureRequest{Config: settings, OwnTuples: cfg.OwnTuples, Name: cfg.Name})
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	if n := len(r.GetProblems()); n > 0 {
		e := &ConfigError{}
		for _, pr := range r.GetProblems()[:min(n, maxProblems)] {
			e.Problems = append(e.Problems, plugin.Problem{Key: clean(pr.GetKey(), 128), Text: clean(pr.GetText(), maxError)})
		}
		return refusal{e}
	}
	if n := len(r.GetEndpoints()); n > maxEndpoints {
		return refuse("it has %d endpoints: at most %d are possible", n, maxEndpoints)
	}
	for _, e := range r.GetEndpoints() {
		p.endpoints = append(p.endpoints, clean(e, 64))
	}
	return nil
}

// info is what the core needs to know.
func (p *process) info() busylamp.SourceInfo {
	info := busylamp.SourceInfo{Batch: p.description.Batch, Endpoints: len(p.endpoints), Unasked: p.description.Unasked}
	if len(p.serves) > 0 {
		info.Serves = p.speaksFor
	}
	return info
}

// speaksFor tells whether the source can speak for somebody.
func (p *process) speaksFor(who busylamp.Presentity) bool {
	for _, re := range p.serves {
		if re.MatchString(string(who)) {
			return true
		}
	}
	return len(p.serves) == 0
}
