package main

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/busylamp/busylamp"
)

// filter tells whose presence is published at one publisher: of those in any of domains,
// users and match, everybody if these are empty; and of nobody in except.
type filter struct {
	domains       map[string]bool
	users         map[busylamp.Presentity]bool
	match, except []*regexp.Regexp
}

// maxPattern is the longest regular expression, in bytes.
const maxPattern = 512

// newFilter returns a filter of what validate has left, nil for one that lets all pass.
func newFilter(c filterConfig) (*filter, error) {
	if len(c.Domains)+len(c.Users)+len(c.Match)+len(c.Except) == 0 {
		return nil, nil
	}
	f := &filter{domains: make(map[string]bool, len(c.Domains)), users: make(map[busylamp.Presentity]bool, len(c.Users))}
	for _, d := range c.Domains {
		f.domains[d] = true
	}
	for _, u := range c.Users {
		f.users[busylamp.Presentity(u)] = true
	}
	for _, list := range []struct {
		patterns []string
		out      *[]*regexp.Regexp
	}{{c.Match, &f.match}, {c.Except, &f.except}} {
		for _, pattern := range list.patterns {
			re, err := regexp.Compile(pattern)
			if err != nil {
				return nil, fmt.Errorf("filter: %w", err)
			}
			*list.out = append(*list.out, re)
		}
	}
	return f, nil
}

// wants tells whether somebody's presence is published. Expressions are looked for
// anywhere in the canonical URI. It takes time linear in the number of expressions, and
// is asked once for each new person.
func (f *filter) wants(who busylamp.Presentity) bool {
	if f == nil {
		return true
	}
	found := func(re *regexp.Regexp) bool { return re.MatchString(string(who)) }
	everybody := len(f.domains)+len(f.users)+len(f.match) == 0
	return (everybody || f.domains[who.Domain()] || f.users[who] || slices.ContainsFunc(f.match, found)) &&
		!slices.ContainsFunc(f.except, found)
}

// filter checks a filter but for its users, see [problems.filtered], and returns it in canonical
// form. Somebody in none of the domains that are published for is rather a mistake; domains is
// nil where these are not known.
func (p *problems) filter(at string, c filterConfig, domains []string) filterConfig {
	given := len(c.Domains)
	c.Domains = p.domains(child(at, "domains"), c.Domains)
	for i, d := range c.Domains {
		if len(c.Domains) == given && len(domains) > 0 && !slices.Contains(domains, d) { // else i is another's
			p.nowhere(entry(child(at, "domains"), i), d, d, domains)
		}
	}
	c.Match, c.Except = p.patterns(child(at, "match"), c.Match), p.patterns(child(at, "except"), c.Except)
	return c
}

// nowhere reports what is in none of the domains that are published for.
func (p *problems) nowhere(at, value, domain string, domains []string) {
	fix := "add it there, or remove it here"
	if len(p.found) < maxProblems { // there may be 100,000 of them
		if meant := nearest(domain, domains); meant != "" {
			fix = "did you mean " + meant + "?"
		}
	}
	p.bad(at, value, "is in none of the top-level domains, and whoever is in no such is published nowhere: "+fix)
}

// filtered checks the users of the publishers' filters, and brings them into canonical form.
func (p *problems) filtered(list []publisherConfig, ours residents) {
	for i := range list {
		f, at := &list[i].Filter, child(child(entry("publishers", i), "filter"), "users")
		f.Users = p.users(at, f.Users, ours)
	}
}

// users returns presentities in canonical form, nil for none.
func (p *problems) users(at string, list []string, ours residents) (out []string) {
	seen := make(map[busylamp.Presentity]string)
	for i, u := range list {
		here := entry(at, i)
		who, err := busylamp.ParsePresentity(u)
		if err != nil {
			p.bad(here, u, fmt.Sprintf("is not the URI of a user: write it like sip:alice@example.com, in up to %d bytes", busylamp.MaxURI))
		} else if other, again := seen[who]; again {
			p.bad(here, u, "is "+other+" again: remove one of them")
		} else {
			seen[who] = here
			out = append(out, string(who))
			p.resident(here, u, who, ours)
		}
	}
	return out
}

// residents are who is published: nobody else need be named. With no domains, because they
// are not known, that is anybody.
type residents struct {
	*directory
	list []string // the domains
}

func newResidents(domains, numbers []string) residents {
	return residents{newDirectory(config{Domains: domains, Numbers: numbers}), domains}
}

// resident checks that calls reach somebody by the name that is given, and returns whether.
func (p *problems) resident(at, value string, who busylamp.Presentity, ours residents) bool {
	if len(ours.list) == 0 {
		return true
	}
	found, err := ours.Presentity(string(who))
	switch {
	case err == nil && found == who:
		return true
	case err == nil && found != "":
		p.bad(at, value, "is a number of ours, at whatever host: write "+string(found))
	case who.Domain() == "":
		p.bad(at, value, "begins like none of the top-level numbers, and whoever does not is published nowhere: add its beginning there, or remove it here")
	default:
		p.nowhere(at, value, who.Domain(), ours.list)
	}
	return false
}

// patterns checks regular expressions, and returns nil for none.
func (p *problems) patterns(at string, list []string) []string {
	for i, pattern := range list {
		p.pattern(entry(at, i), pattern)
	}
	if len(list) == 0 {
		return nil
	}
	return list
}

func (p *problems) pattern(at, pattern string) {
	const fix = `: write one of RE2's, such as ^sip:1[0-9]{3}@`
	_, err := regexp.Compile(pattern)
	switch {
	case strings.TrimSpace(pattern) == "":
		p.bad(at, pattern, "is an empty regular expression"+fix)
	case len(pattern) > maxPattern:
		p.bad(at, pattern, fmt.Sprintf("has %d bytes: shorten it to %d", len(pattern), maxPattern))
	case err != nil:
		why := err.Error()
		var se *syntax.Error
		if errors.As(err, &se) {
			why = se.Code.String() + " " + quote(se.Expr)
		}
		p.bad(at, pattern, "is no regular expression, "+why+fix)
	}
}
