package plugintest

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// checkStart: the handshake within its time, of the contract's version.
func checkStart(_ context.Context, p *probe) {
	l, err := p.open(false)
	if err != nil {
		p.fault("it must print go-plugin's handshake line within %s, of contract version 1: %v", starting, err)
		return
	}
	l.close()
}

var (
	kindName   = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)
	secretName = regexp.MustCompile(`(?i)(password|passwd|secret|token|api_?key|private_?key)$`)
)

// checkDescribe: what a source says of itself is there, and can be used.
func checkDescribe(ctx context.Context, p *probe) {
	p.withLink(false, func(l *link) {
		d, err := l.describe(ctx, p.Options)
		if err != nil {
			p.fault("%v", err)
			return
		}
		if !kindName.MatchString(d.GetName()) {
			p.fault("name must be a word in lower case, such as sip: it is %q", d.GetName())
		}
		if d.GetVersion() == "" || d.GetSummary() == "" {
			p.fault("version and summary must not be empty: they are %q and %q", d.GetVersion(), d.GetSummary())
		}
		for _, expr := range d.GetServes() {
			if _, err := regexp.Compile(expr); err != nil {
				p.fault("serves must hold regular expressions of RE2: %v", err)
			}
		}
		p.judgeKeys(d)
		again, err := l.describe(ctx, p.Options)
		if err != nil || !proto.Equal(d, again) {
			p.fault("Describe must say the same each time, and has not (%v)", err)
		}
	})
}

func (p *probe) judgeKeys(d *pluginv1.DescribeResponse) {
	seen := map[string]bool{}
	for _, k := range d.GetKeys() {
		name := k.GetName()
		switch {
		case name == "":
			p.fault("each key must have a name")
		case seen[name]:
			p.fault("each key must be there once: %s is there twice", name)
		case k.GetDoc() == "":
			p.fault("each key must have a line of doc: %s has none", name)
		case !k.GetSecret() && secretName.MatchString(name):
			p.fault("a key that holds a secret must be marked so: %s is not", name)
		case k.GetSecret() && k.GetDefault() != "":
			p.fault("a secret must have no default: %s has one", name)
		}
		seen[name] = true
	}
}

// checkConfigure: a good section is accepted, also after a bad one in the same process.
func checkConfigure(ctx context.Context, p *probe) {
	p.withLink(false, func(l *link) {
		good, err := section(p.Config)
		if err != nil {
			p.fault("%v", err)
			return
		}
		for _, b := range p.BadConfigs {
			if bad, err := section(b.Config); err == nil {
				if _, err := l.configure(ctx, p.Options, bad); err != nil {
					p.fault("%v", err)
					return
				}
			}
		}
		for range 2 {
			r, err := l.configure(ctx, p.Options, good)
			if err != nil {
				p.fault("%v", err)
				return
			}
			for _, problem := range r.GetProblems() {
				p.fault("the good configuration must be accepted (again, after bad ones): %s: %s", problem.GetKey(), problem.GetText())
			}
		}
	})
}

// refuses configures a source with a section that it must refuse by naming a key.
func (p *probe) refuses(ctx context.Context, l *link, what, key string, config map[string]any) {
	r, err := l.configure(ctx, p.Options, config)
	if err != nil {
		p.fault("%s must be refused by a problem that names the key: %v", what, err)
		return
	}
	var named []string
	good := false
	for _, problem := range r.GetProblems() {
		k := problem.GetKey()
		named = append(named, k+": "+problem.GetText())
		good = good || k == key || inside(k, key) || inside(key, k)
		for _, secret := range p.secrets(ctx, l) {
			if strings.Contains(problem.GetText(), secret) {
				p.fault("a problem must show no secret: that of %s does", k)
			}
		}
	}
	switch {
	case len(named) == 0:
		p.fault("%s must be refused: it was accepted", what)
	case !good:
		p.fault("%s must be refused by a problem whose key is %s: the problems are %.500q", what, key, named)
	}
}

// inside tells whether a key is of the section, or an entry of the list, that another names.
func inside(key, of string) bool {
	rest, ok := strings.CutPrefix(key, of)
	return ok && of != "" && (strings.HasPrefix(rest, ".") || strings.HasPrefix(rest, "["))
}

// secrets returns the values of the good configuration that must not be shown.
func (p *probe) secrets(ctx context.Context, l *link) []string {
	d, err := l.describe(ctx, p.Options)
	if err != nil {
		return nil
	}
	var out []string
	for _, k := range d.GetKeys() {
		config, err := section(p.Config)
		if err != nil || !k.GetSecret() {
			continue
		}
		at, last := descend(config, k.GetName())
		if s, ok := at[last].(string); ok && len(s) > 3 {
			out = append(out, s)
		}
	}
	return out
}

// descend leads to the section that holds a key; sections that are not there are made.
func descend(config map[string]any, key string) (at map[string]any, last string) {
	parts := strings.Split(key, ".")
	for _, part := range parts[:len(parts)-1] {
		next, ok := config[part].(map[string]any)
		if !ok {
			next = map[string]any{}
			config[part] = next
		}
		config = next
	}
	return config, parts[len(parts)-1]
}

// changed runs f with a source and a copy of the good configuration for each described key.
func (p *probe) changed(ctx context.Context, f func(l *link, k *pluginv1.Key, config map[string]any)) {
	p.withLink(false, func(l *link) {
		d, err := l.describe(ctx, p.Options)
		if err != nil {
			p.fault("%v", err)
			return
		}
		for _, k := range d.GetKeys() {
			config, err := section(p.Config)
			if err != nil {
				p.fault("%v", err)
				return
			}
			f(l, k, config)
		}
	})
}

func checkUnknownKey(ctx context.Context, p *probe) {
	const unknown = "plugintest_unknown"
	p.withLink(false, func(l *link) {
		config, err := section(p.Config)
		if err != nil {
			p.fault("%v", err)
			return
		}
		config[unknown] = 1
		p.refuses(ctx, l, "an unknown key", unknown, config)
	})
}

// checkWrongType: no key takes a list of lists of lists.
func checkWrongType(ctx context.Context, p *probe) {
	p.changed(ctx, func(l *link, k *pluginv1.Key, config map[string]any) {
		at, last := descend(config, k.GetName())
		at[last] = [][][]int{{{1}}}
		p.refuses(ctx, l, k.GetName()+" of a wrong type", k.GetName(), config)
	})
	p.hides(ctx)
}

func checkRequired(ctx context.Context, p *probe) {
	p.changed(ctx, func(l *link, k *pluginv1.Key, config map[string]any) {
		at, last := descend(config, k.GetName())
		if !k.GetRequired() || at[last] == nil {
			return
		}
		delete(at, last)
		p.refuses(ctx, l, "a section without the required "+k.GetName(), k.GetName(), config)
	})
}

func checkBadConfigs(ctx context.Context, p *probe) {
	p.withLink(false, func(l *link) {
		for i, b := range p.BadConfigs {
			config, err := section(b.Config)
			if err != nil {
				p.fault("%v", err)
				return
			}
			p.refuses(ctx, l, fmt.Sprintf("BadConfigs[%d]", i), b.Key, config)
		}
	})
}
