package main

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/busylamp/busylamp"
)

// callsSource is what rules call the built-in source.
const callsSource = "calls"

// speakers tells which sources are heard of whom: those of the first rule that matches, and
// none where none does.
type speakers []speakerRule

type speakerRule struct {
	match   *regexp.Regexp // nil: any URI
	domains []string       // none: any
	e164    bool
	hasUPN  bool
	sources []string
}

// newSpeakers returns what validate has left, nil for no rules: all sources for everybody.
func newSpeakers(rules []ruleConfig) (speakers, error) {
	var out speakers
	for i, r := range rules {
		s := speakerRule{domains: r.Domains, e164: r.E164, hasUPN: r.HasUPN, sources: r.Sources}
		if r.Match != "" {
			var err error
			if s.match, err = regexp.Compile(r.Match); err != nil {
				return nil, fmt.Errorf("rules[%d].match: %w", i, err)
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// of returns who is heard of a presentity.
func (s speakers) of(who busylamp.Presentity, upn string) []string {
	for _, r := range s {
		if r.matches(who, upn) {
			return r.sources
		}
	}
	return nil
}

// matches tells whether all of a rule's conditions hold. An expression is looked for anywhere
// in the canonical URI.
func (r *speakerRule) matches(who busylamp.Presentity, upn string) bool {
	return (r.match == nil || r.match.MatchString(string(who))) &&
		(len(r.domains) == 0 || slices.Contains(r.domains, who.Domain())) &&
		(!r.e164 || who.IsNumber()) && (!r.hasUPN || upn != "")
}
