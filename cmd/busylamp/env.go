package main

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Every key can come from the environment, by its path in upper case, the parts joined
// with "_" and entries of lists by their number: BUSYLAMP_ADMIN, BUSYLAMP_LOG_LEVEL,
// BUSYLAMP_PUBLISHERS_0_SERVER. The number after the last entry's adds one. A list of
// words is separated by commas, or by spaces where a comma can be part of an entry:
// BUSYLAMP_DOMAINS=a.example,b.example. The names follow from config, so that a new key
// has its variable. Sections have none: to replace a whole publisher by accident is too
// easy. The entries of names have none either, since a URI can be no part of a variable's
// name.

const envPrefix = "BUSYLAMP_"

// envOthers are variables that are no keys: of the tests, and for scripts that pass on
// the configuration file's name.
var envOthers = []string{"BUSYLAMP_E2E", "BUSYLAMP_CONFIG"}

// envService are the variables that Kubernetes puts into every container when there is a
// service named busylamp. They must not keep it from starting.
var envService = regexp.MustCompile(`^BUSYLAMP_(SERVICE_(HOST|PORT(_.*)?)|PORT(_.*)?)$`)

// step is one part of a path: a key, or the number of an entry where key is "".
type step struct {
	key   string
	index int
}

// setting is an environment variable that names a key.
type setting struct {
	name, value string
	steps       []step
	field       field
}

func (s setting) place() place { return place{variable: s.name} }

// environment puts the variables' values into a tree, in place.
func (p *problems) environment(tree map[string]any, environ []string) {
	for _, s := range p.settings(environ) {
		at := ""
		for _, st := range s.steps {
			at = st.path(at)
		}
		if s.field.kind.Kind() == reflect.Map {
			p.report(s.place(), "the entries of "+at+" can only be set in the file")
			continue
		}
		if s.isSection() {
			p.report(s.place(), "a whole section, which no variable can replace: set its keys, such as "+s.example())
			continue
		}
		p.set("", tree, s.steps, s)
	}
	for _, f := range fields(reflect.TypeFor[config]()) {
		if list, ok := tree[f.key].([]any); ok {
			p.fits(f.key, len(list), f)
		}
	}
}

// settings returns the variables that are ours, entries of lists in order, and reports
// those that name no key.
func (p *problems) settings(environ []string) []setting {
	values := make(map[string]string) // of a variable given twice, the last counts
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, envPrefix) {
			values[name] = value
		}
	}
	root := field{kind: reflect.TypeFor[config]()}
	var out []setting
	for name, value := range values {
		s := setting{name: name, value: value}
		var ok bool
		if s.steps, s.field, ok = resolve(strings.TrimPrefix(name, envPrefix), root); !ok {
			if slices.Contains(envOthers, name) || envService.MatchString(name) {
				continue
			}
			s.steps = nil
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b setting) int {
		return cmp.Or(slices.CompareFunc(a.steps, b.steps, step.compare), cmp.Compare(a.name, b.name))
	})
	return slices.DeleteFunc(out, func(s setting) bool {
		if s.steps == nil {
			p.unknownVariable(s.name)
		}
		return s.steps == nil
	})
}

func (s step) compare(other step) int {
	return cmp.Or(cmp.Compare(s.key, other.key), cmp.Compare(s.index, other.index))
}

func (s step) path(above string) string {
	if s.key == "" {
		return entry(above, s.index)
	}
	return child(above, s.key)
}

// resolve finds the key that the rest of a variable's name is the path of. Keys have "_"
// in them, too, so it tries each that fits.
func resolve(rest string, f field) ([]step, field, bool) {
	if rest == "" {
		return nil, f, true
	}
	switch {
	case f.kind.Kind() == reflect.Struct:
		for _, sub := range fields(f.kind) {
			name := strings.ToUpper(sub.key)
			if after, ok := strings.CutPrefix(rest, name); ok && (after == "" || after[0] == '_') {
				if steps, leaf, ok := resolve(strings.TrimPrefix(after, "_"), sub); ok {
					return append([]step{{key: sub.key}}, steps...), leaf, true
				}
			}
		}
	case f.kind.Kind() == reflect.Map:
		return nil, f, true
	case f.kind.Kind() == reflect.Slice && !isScalar(f.kind.Elem()):
		number, after, _ := strings.Cut(rest, "_")
		i, err := strconv.Atoi(number)
		if err == nil && strconv.Itoa(i) == number && i >= 0 {
			if steps, leaf, ok := resolve(after, field{kind: f.kind.Elem()}); ok {
				return append([]step{{index: i}}, steps...), leaf, true
			}
		}
	}
	return nil, field{}, false
}

// isSection tells whether a variable names more than one value.
func (s setting) isSection() bool {
	k := s.field.kind
	return k.Kind() == reflect.Struct || k.Kind() == reflect.Slice && !isScalar(k.Elem())
}

// example returns a variable below a section's.
func (s setting) example() string {
	name, t := s.name, s.field.kind
	if t.Kind() == reflect.Slice {
		name, t = name+"_0", t.Elem()
	}
	return name + "_" + strings.ToUpper(fields(t)[0].key)
}

// set returns a node of the tree with the variable's value put in where the steps lead.
func (p *problems) set(at string, node any, steps []step, s setting) any {
	if len(steps) == 0 {
		p.origins[at] = s.place()
		return p.text(at, s)
	}
	here := steps[0].path(at)
	if steps[0].key != "" {
		section, ok := node.(map[string]any)
		if !ok {
			section = make(map[string]any)
		}
		section[steps[0].key] = p.set(here, section[steps[0].key], steps[1:], s)
		return section
	}
	list, _ := node.([]any)
	switch i := steps[0].index; {
	case i > len(list):
		p.report(s.place(), fmt.Sprintf("%s: the list has %s, so the next number is %d", here,
			count(len(list), "entry", "entries"), len(list)))
		return node
	case i == len(list):
		p.origins[here] = s.place()
		list = append(list, map[string]any{})
	}
	list[steps[0].index] = p.set(here, list[steps[0].index], steps[1:], s)
	return list
}

// text makes a value of the variable's text.
func (p *problems) text(at string, s setting) any {
	if s.field.kind.Kind() != reflect.Slice {
		return p.scalar(at, s.value, s.field)
	}
	out := []any{}
	if strings.TrimSpace(s.value) == "" {
		return out
	}
	words := strings.Split(s.value, ",")
	if s.field.tag.Get("sep") == "space" {
		words = strings.Fields(s.value)
	}
	if !p.fits(at, len(words), s.field) {
		return out
	}
	for i, word := range words {
		p.origins[entry(at, i)] = s.place()
		v := p.scalar(entry(at, i), strings.TrimSpace(word), field{kind: s.field.kind.Elem()})
		if v == nil {
			v = emptyEntry(s.field.kind.Elem())
		}
		out = append(out, v)
	}
	return out
}

var envIndex = regexp.MustCompile(`_\d+_`)

// unknownVariable reports a variable that names no key, with the one that was meant.
func (p *problems) unknownVariable(name string) {
	var known []string
	for _, at := range allKeys("", reflect.TypeFor[config]()) {
		known = append(known, strings.ToUpper(strings.NewReplacer("[]", "_0", ".", "_").Replace(at)))
	}
	key := strings.TrimPrefix(name, envPrefix)
	index := envIndex.FindString(key)
	meant := nearest(envIndex.ReplaceAllString(key, "_0_"), known)
	where := place{variable: bare(name)}
	if meant == "" {
		p.report(where, "unknown variable: unset it, or name a key by its path, such as BUSYLAMP_LOG_LEVEL")
		return
	}
	if index != "" {
		meant = strings.Replace(meant, "_0_", index, 1)
	}
	p.report(where, "unknown variable: did you mean "+envPrefix+meant+"?")
}
