package plugintest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// marker is a secret that no source would show by chance, as text and as a number.
const marker = 47_114_711

// hides checks that no problem shows what stands for a secret, whatever its type: an
// administrator forgets the quotes around a password of digits.
func (p *probe) hides(ctx context.Context) {
	p.withLink(false, func(l *link) {
		d, err := l.describe(ctx, p.Options)
		if err != nil {
			p.fault("%v", err)
			return
		}
		for _, k := range d.GetKeys() {
			if !k.GetSecret() && !secretName.MatchString(k.GetName()) {
				continue
			}
			for _, value := range []any{marker, fmt.Sprint(marker), []any{marker}, map[string]any{"x": marker}} {
				for _, listed := range []bool{false, true} {
					config, err := section(p.Config)
					if err != nil {
						p.fault("%v", err)
						return
					}
					place(config, strings.Split(k.GetName(), "."), value, listed)
					p.reveals(ctx, l, config)
				}
			}
		}
		p.hidesOwn(ctx, l)
	})
}

// hidesOwn does so for what the good configuration holds under a secret's name anywhere, such
// as in a list that is described by its name alone.
func (p *probe) hidesOwn(ctx context.Context, l *link) {
	for n := 0; ; n++ {
		config, err := section(p.Config)
		if err != nil {
			return // told before
		}
		left := n
		if !replace(config, &left) {
			return
		}
		p.reveals(ctx, l, config)
	}
}

// reveals finds the problems that show the marker.
func (p *probe) reveals(ctx context.Context, l *link, config map[string]any) {
	r, err := l.configure(ctx, p.Options, config)
	if err != nil {
		p.fault("a secret of any type must be accepted, or refused by a problem: %v", err)
		return
	}
	for _, problem := range r.GetProblems() {
		// As floating point it may be written 4.7114711e+07.
		if text := problem.GetText(); strings.Contains(strings.ReplaceAll(text, ".", ""), fmt.Sprint(marker)) {
			p.fault("a problem must show no secret, of a wrong type or not: that of %s does", problem.GetKey())
		}
	}
}

// place puts a value at a key. Sections on the way that are not there are made; listed puts
// each into a list, and a list that is there already is gone into in any case.
func place(at map[string]any, key []string, value any, listed bool) {
	for ; len(key) > 1; key = key[1:] {
		var next map[string]any
		switch has := at[key[0]].(type) {
		case map[string]any:
			next = has
		case []any:
			if len(has) > 0 {
				next, _ = has[0].(map[string]any)
			}
		}
		if next == nil {
			next = map[string]any{}
			if at[key[0]] = any(next); listed {
				at[key[0]] = []any{next}
			}
		}
		at = next
	}
	at[key[0]] = value
}

// replace puts the marker in the place of the value after so many others whose key is called
// like a secret, and tells whether there was one.
func replace(in any, left *int) bool {
	switch in := in.(type) {
	case []any:
		for _, v := range in {
			if replace(v, left) {
				return true
			}
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(in)) {
			if secretName.MatchString(key) {
				if *left == 0 {
					in[key] = marker
					return true
				}
				*left--
			} else if replace(in[key], left) {
				return true
			}
		}
	}
	return false
}
