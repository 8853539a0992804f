package plugintest

import (
	"context"
	"testing"

	"github.com/busylamp/busylamp/plugin"
)

// teller takes no account, or no accounts, but "good", and shows what it was given if tells says so.
type teller struct {
	keys  []plugin.Key
	tells bool
}

func (s *teller) Describe() plugin.Description {
	return plugin.Description{Name: "teller", Version: "1", Summary: "for a test", Keys: s.keys}
}

type tellerAccount struct {
	Password any `yaml:"password"`
}

func (s *teller) Configure(c plugin.Config) error {
	var section struct {
		Account  tellerAccount   `yaml:"account"`
		Accounts []tellerAccount `yaml:"accounts"`
	}
	if err := c.Decode(&section); err != nil {
		return err
	}
	for _, a := range append(section.Accounts, section.Account) {
		if a.Password == nil || a.Password == "good" {
			continue
		}
		if s.tells {
			return plugin.Errorf("accounts", "password is %v: it must be another", a.Password)
		}
		return plugin.Errorf("accounts", "password must be another")
	}
	return nil
}

func (s *teller) Run(ctx context.Context, _ plugin.Host) error { <-ctx.Done(); return nil }

// TestHidden: a secret that a problem shows is found in a section, in a list, and in what the
// good configuration has without describing it; and nothing is found where it is hidden.
func TestHidden(t *testing.T) {
	good := map[string]any{"accounts": []any{map[string]any{}, map[string]any{"password": "good"}}}
	account, list := plugin.Key{Name: "account.password", Doc: "x", Secret: true}, plugin.Key{Name: "accounts.password", Doc: "x", Secret: true}
	for name, c := range map[string]struct {
		key    plugin.Key
		config any
	}{
		"in a section":     {account, nil},
		"in a list":        {list, nil},
		"in a list's item": {list, good},
		"not described":    {plugin.Key{Name: "accounts", Doc: "x"}, good},
	} {
		for _, tells := range []bool{true, false} {
			o := Options{Config: c.config, Source: func() plugin.Source { return &teller{[]plugin.Key{c.key}, tells} }}
			p := &probe{Options: o.withDefaults()}
			p.hides(t.Context())
			if found := len(p.faults.texts) > 0; found != tells {
				t.Errorf("%s: shown %t, found: %q", name, tells, p.faults.texts)
			}
		}
	}
}
