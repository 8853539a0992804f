package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxProblems bounds the lines of an error: 100,000 wrong names help nobody.
const maxProblems = 100

// maxShown is the longest value, in bytes, that is shown whole.
const maxShown = 80

// problems collects everything that is wrong with a configuration, so that it can be put
// right in one go. A path is a key with all that is above it: publishers[0].expires.
type problems struct {
	file    string
	origins map[string]place // by path
	wrong   map[string]bool  // by path: reported already, with all that is below
	found   []problem
	more    int // beyond maxProblems
}

// place is where a value came from: an environment variable, or a line of the file, 0 for
// none in particular.
type place struct {
	variable string
	line     int
}

type problem struct {
	place
	text string
}

func newProblems(file string) *problems {
	return &problems{file: file, origins: make(map[string]place), wrong: make(map[string]bool)}
}

// configError is the error of a configuration: one line for each problem.
type configError []string

func (e configError) Error() string { return strings.Join(e, "\n") }

// err returns the problems in the file's order, then the environment's, as one error. It
// is nil if there are none.
func (p *problems) err() error {
	if len(p.found) == 0 {
		return nil
	}
	slices.SortStableFunc(p.found, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.variable, b.variable), cmp.Compare(a.line, b.line))
	})
	var lines configError
	for _, f := range p.found {
		where := f.variable
		switch {
		case where != "":
		case f.line > 0:
			where = fmt.Sprintf("%s:%d", p.file, f.line)
		default:
			where = p.file
		}
		lines = append(lines, where+": "+f.text)
	}
	if p.more > 0 {
		lines = append(lines, p.file+": and "+count(p.more, "more problem", "more problems"))
	}
	return lines
}

// add reports a problem at a path, unless there is one at or above it: whoever is told
// that a list is no list need not hear what its entries lack.
func (p *problems) add(at, text string) {
	for a := at; ; a = parent(a) {
		if p.wrong[a] {
			return
		}
		if a == "" {
			break
		}
	}
	p.wrong[at] = true
	if at != "" {
		text = at + ": " + text
	}
	p.report(p.origin(at), text)
}

// bad reports a text value and what to do about it.
func (p *problems) bad(at, value, fix string) { p.add(at, p.show(at, quote(value))+" "+fix) }

// report reports a problem of a place.
func (p *problems) report(where place, text string) {
	if len(p.found) == maxProblems {
		p.more++
		return
	}
	p.found = append(p.found, problem{where, text})
}

// cover keeps quiet about a path whose problem shows in another.
func (p *problems) cover(at string) { p.wrong[at] = true }

// origin returns where a value came from, or what is nearest above it.
func (p *problems) origin(at string) place {
	for ; at != ""; at = parent(at) {
		if o, ok := p.origins[at]; ok {
			return o
		}
	}
	return place{}
}

// show hides what may be a secret.
func (p *problems) show(at, shown string) string {
	at = strings.ToLower(at)
	if strings.Contains(at, "password") || strings.Contains(at, "secret") {
		return hidden
	}
	return shown
}

// parent returns the path above, "" for the top. Of a quoted key with a dot in it this
// makes paths that are nobody's before it comes to the real one, which does no harm.
func parent(at string) string { return at[:max(strings.LastIndexAny(at, ".["), 0)] }

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// child returns the path of a key in a section.
func child(at, key string) string {
	switch {
	case !plainKey.MatchString(key):
		return at + "[" + quote(key) + "]"
	case at == "":
		return key
	default:
		return at + "." + key
	}
}

// entry returns the path of an entry of a list.
func entry(at string, i int) string { return fmt.Sprintf("%s[%d]", at, i) }

// uriPassword is the password in a URI, from the colon to the last at sign.
var uriPassword = regexp.MustCompile(`(?s)(:[^:@]*:).*@`)

// quote makes one short line of any text, with no password in it.
func quote(s string) string {
	s = uriPassword.ReplaceAllString(s, "$1"+hidden+"@")
	if len(s) <= maxShown {
		return strconv.Quote(s)
	}
	cut := maxShown
	for cut > maxShown-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.Quote(s[:cut]) + "…"
}

// bare is quote without the quotes, for what is not text.
func bare(s string) string {
	s = quote(s)
	if cut, long := strings.CutSuffix(s, "…"); long {
		return cut[1:len(cut)-1] + "…"
	}
	return s[1 : len(s)-1]
}
