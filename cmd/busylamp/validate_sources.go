package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/busylamp/busylamp"
)

// sources checks the sources, and what is said about them elsewhere.
func (p *problems) sources(c *config, domains []string) {
	if len(c.Sources) > 0 && (!strings.HasPrefix(c.Plugins.Dir, "/") || c.Plugins.Dir != path.Clean(c.Plugins.Dir)) {
		p.bad("plugins.dir", c.Plugins.Dir, "is no absolute path in its shortest form: write it like /usr/lib/busylamp/plugins")
	}
	names := map[string]string{callsSource: "the built-in source of calls", "endpoints": "the built-in source of endpoints", "takeover": "an inner source"}
	publishers := make([]string, 0, len(c.Publishers))
	for _, pub := range c.Publishers {
		publishers = append(publishers, pub.Name)
	}
	known := []string{callsSource}
	for i := range c.Sources {
		s, at := &c.Sources[i], entry("sources", i)
		p.name(at, s.Name, names)
		known = append(known, s.Name)
		p.source(at, s, c.Plugins)
		s.SameSystemAs = orNil(s.SameSystemAs)
		for j, name := range s.SameSystemAs {
			p.oneOf(entry(child(at, "same_system_as"), j), name, publishers, "is no publisher")
		}
	}
	p.rules(c.Rules, known)
	if c.Preferred != "" {
		p.oneOf("preferred_source", c.Preferred, known[1:], "is none of sources")
	}
	p.precedence(c)
	ours := newResidents(domains, c.Numbers)
	p.filtered(c.Publishers, ours)
	c.Endpoints = p.endpoints(c.Endpoints, ours)
	c.Watch = p.watch(c.Watch, c.WatchFile, ours)
	for i, n := range c.Numbers {
		if !numberStart.MatchString(n) {
			p.bad(entry("numbers", i), n, `is not the beginning of an E.164 number: write "+" and 1 to 15 digits, in quotes`)
		}
	}
	c.UPNs = p.upns(c.UPNs)
	c.Order, c.Numbers, c.Sources, c.Rules, c.Endpoints = orNil(c.Order), orNil(c.Numbers), orNil(c.Sources), orNil(c.Rules), orNil(c.Endpoints)
	if len(c.ShownAs) == 0 {
		c.ShownAs = nil
	}
}

// orNil returns nil for a list that is empty, so that it is the same as none.
func orNil[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}

var (
	fileName    = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)
	numberStart = regexp.MustCompile(`^\+[0-9]{1,15}$`)
)

func (p *problems) source(at string, s *sourceConfig, plugins pluginsConfig) {
	if here := child(at, "plugin"); p.given(here, s.Plugin, "the name of the plugin's file in plugins.dir, such as busylamp-source-sip") &&
		(!fileName.MatchString(s.Plugin) || strings.Trim(s.Plugin, ".") == "") {
		p.bad(here, s.Plugin, "is no plain file name: write one of those in "+quote(plugins.Dir))
	}
	if here := child(at, "sha256"); s.SHA256 == "" && !plugins.AllowUnpinned {
		p.add(here, "missing: have it written by: busylamp plugin pin "+s.Name+" (or, where you alone can write to plugins.dir, set plugins: allow_unpinned: true)")
	} else if b, err := hex.DecodeString(s.SHA256); s.SHA256 != "" && (err != nil || len(b) != 32) {
		p.bad(here, s.SHA256, "is no SHA-256 of 64 hexadecimal digits: have it written by: busylamp plugin pin "+s.Name)
	}
	s.SHA256 = strings.ToLower(s.SHA256)
	if s.MaxFailedDelay < s.FailedDelay {
		p.add(child(at, "max_failed_subscription_delay"), fmt.Sprintf("%v is less than failed_subscription_delay, which is %v: write that at least", s.MaxFailedDelay, s.FailedDelay))
	}
}

// oneOf checks a name of something that is configured elsewhere.
func (p *problems) oneOf(at, name string, known []string, isNot string) {
	if slices.Contains(known, name) {
		return
	}
	fix := "there is none"
	if meant := nearest(name, known); meant != "" {
		fix = "did you mean " + meant + "?"
	} else if len(known) > 0 {
		fix = "write " + either(known)
	}
	p.bad(at, name, isNot+": "+fix)
}

func (p *problems) rules(list []ruleConfig, known []string) {
	for i := range list {
		r, at := &list[i], entry("rules", i)
		if r.Match != "" {
			p.pattern(child(at, "match"), r.Match)
		}
		r.Domains = p.domains(child(at, "domains"), r.Domains)
		for j, name := range r.Sources {
			p.oneOf(entry(child(at, "sources"), j), name, known, "is no source")
		}
		if len(r.Sources) == 0 {
			p.add(child(at, "sources"), "missing: name the sources that speak for whom the rule matches, "+callsSource+" for calls")
		}
		if last := i == len(list)-1; !last && r.Match == "" && len(r.Domains) == 0 && !r.E164 && !r.HasUPN {
			p.add(at, "matches everybody, so that the rules after it are never looked at: move it to the end, or give it a condition")
		}
	}
}

// shownNothing is what published_as calls what is published by publishing nothing.
const shownNothing = "nothing"

// precedence checks the table of states.
func (p *problems) precedence(c *config) {
	seen := make(map[string]bool)
	for i, name := range c.Order {
		at := entry("precedence", i)
		p.state(at, name)
		if seen[name] {
			p.bad(at, name, "is there twice: remove one of them")
		}
		if name == busylamp.Forwarded.String() && c.Forwarded == "flag" {
			p.bad(at, name, "is no state while forwarded is flag: set forwarded: state, or remove it here")
		}
		seen[name] = true
	}
	for _, key := range slices.Sorted(maps.Keys(c.ShownAs)) {
		p.shownAs(child("published_as", key), key, c.ShownAs[key])
	}
}

// shownAs checks what a state is published as.
func (p *problems) shownAs(at, name, as string) {
	p.state(at, name)
	switch {
	case as == shownNothing:
	case name == busylamp.Available.String() || name == busylamp.Offline.String():
		p.bad(at, as, "cannot be: "+name+" is also what everybody is of whom nothing is known, and that is published by publishing nothing: remove it")
	case as == busylamp.Offline.String():
		p.bad(at, as, "is nothing that is published: write "+shownNothing)
	default:
		p.state(at, as)
	}
}

// state checks the name of a state.
func (p *problems) state(at, name string) {
	names := make([]string, 0, 16)
	for s := busylamp.Offline; s.String() != busylamp.Unknown.String(); s++ {
		names = append(names, s.String())
	}
	p.oneOf(at, name, names, "is no state")
}

// endpointStates are what an endpoint can be shown as: what is published, and of no other's
// doing.
var endpointStates = []string{callsSource, "available", "away", "busy", "meeting", "on-the-phone", "presenting", "do-not-disturb"}

// endpoints checks the applications' presentities, and brings them into canonical form.
func (p *problems) endpoints(list []endpointConfig, ours residents) []endpointConfig {
	seen := make(map[busylamp.Presentity]string)
	for i := range list {
		e, at := &list[i], entry("endpoints", i)
		here := child(at, "presentity")
		if !p.given(here, e.Presentity, "the endpoint's URI, such as sip:helpdesk@example.com") {
			continue
		}
		who, err := busylamp.ParsePresentity(e.Presentity)
		if err != nil {
			p.bad(here, e.Presentity, "is not the URI of an endpoint: write it like sip:helpdesk@example.com")
			continue
		}
		if other, again := seen[who]; again {
			p.bad(here, e.Presentity, "is "+other+" again: remove one of them")
		}
		p.resident(here, e.Presentity, who, ours)
		seen[who], e.Presentity = at, string(who)
		p.oneOf(child(at, "state"), e.State, endpointStates, "is no state of an endpoint")
		busyAt := child(at, "busy_at")
		if _, given := p.origins[busyAt]; given && e.State != callsSource {
			p.add(busyAt, fmt.Sprintf("%d has no effect beside state: %s: set state: %s, or remove it", e.BusyAt, e.State, callsSource))
		}
	}
	return list
}

// maxWatchFile is the largest file of presentities, in bytes.
const maxWatchFile = 64 << 20

// watch returns whom the sources are asked for, of the list and the file.
func (p *problems) watch(list []string, file string, ours residents) []string {
	out, seen := make([]string, 0, len(list)), make(map[busylamp.Presentity]bool, len(list))
	add := func(at, uri string) {
		who, err := busylamp.ParsePresentity(uri)
		switch {
		case err != nil:
			p.bad(at, uri, "is not the URI of a user: write it like sip:alice@example.com or tel:+31612345678")
		case p.resident(at, uri, who, ours) && !seen[who]:
			seen[who] = true
			out = append(out, string(who))
		}
	}
	for i, uri := range list {
		add(entry("watch", i), uri)
	}
	if file != "" {
		if err := eachLine(file, func(n int, line string) { add(fmt.Sprintf("watch_file[%d]", n), line) }); err != nil {
			p.bad("watch_file", file, "cannot be read: "+reason(err)+": name a file with a URI on each line")
		}
	}
	return orNil(out)
}

// eachLine calls f with each line that says something, and its number. "#" begins a comment.
func eachLine(name string, f func(int, string)) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	limited := &io.LimitedReader{R: file, N: maxWatchFile}
	lines := bufio.NewScanner(limited)
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line != "" {
			f(n, line)
		}
	}
	if lines.Err() == nil && limited.N == 0 {
		return errors.New("larger than 64 MiB")
	}
	return lines.Err()
}

// upns returns the user principal names by canonical presentity, nil for none.
func (p *problems) upns(list map[string]string) map[string]string {
	if len(list) == 0 {
		return nil
	}
	out := make(map[string]string, len(list))
	for _, key := range slices.Sorted(maps.Keys(list)) {
		at, upn := child("upns", key), list[key]
		who, err := busylamp.ParsePresentity(key)
		if err != nil {
			p.add(at, "the key is not the URI of a user: write it like sip:alice@example.com")
			continue
		}
		if len(upn) > maxDisplayName || strings.Count(upn, "@") != 1 {
			p.bad(at, upn, "is no user principal name: write it like alice@corp.example")
		}
		out[string(who)] = upn
	}
	return out
}
