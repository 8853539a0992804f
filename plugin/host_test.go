package plugin

import (
	"testing"

	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// TestMerge shows what may share a message: nothing that would come in another order, and no
// more than fits.
func TestMerge(t *testing.T) {
	claims := func(n int) *pluginv1.SourceMessage {
		return &pluginv1.SourceMessage{Claims: make([]*pluginv1.Claim, n)}
	}
	subs := func(n int) *pluginv1.SourceMessage {
		return &pluginv1.SourceMessage{Subscriptions: make([]*pluginv1.Subscription, n)}
	}
	up := &pluginv1.SourceMessage{Connector: &pluginv1.Connector{}}
	for _, c := range []struct {
		name    string
		into, m *pluginv1.SourceMessage
		want    bool
	}{
		{"claims", claims(1), claims(2), true},
		{"subscriptions", subs(1), subs(2), true},
		{"a claim after a subscription", subs(1), claims(1), true},
		{"a subscription after a claim", claims(1), subs(1), false},
		{"a connector after a claim", claims(1), up, false},
		{"a claim after a connector", up, claims(1), true},
		{"as many as fit", claims(perMessage - 1), claims(1), true},
		{"too many", claims(perMessage - 1), claims(2), false},
		{"too many of both", subs(perMessage - 1), claims(2), false},
	} {
		parts := len(c.into.Claims) + len(c.into.Subscriptions) + len(c.m.Claims) + len(c.m.Subscriptions)
		if got := merge(c.into, c.m); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		} else if now := len(c.into.Claims) + len(c.into.Subscriptions); got && now != parts {
			t.Errorf("%s: %d parts of %d", c.name, now, parts)
		}
	}
}

// TestServes shows that an expression must match the whole URI, alternatives included, and
// which descriptions are refused.
func TestServes(t *testing.T) {
	a, err := understand(Description{Name: "n", Version: "1", Serves: []string{"sip:a@x|sip:b@x"}})
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]bool{"sip:a@x": true, "sip:b@x": true, "sip:a@xy": false, "sips:sip:b@x": false} {
		if a.serve(p) != want {
			t.Errorf("%s: %v", p, !want)
		}
	}
	for _, d := range []Description{{Version: "1"}, {Name: "n"}, {Name: "n", Version: "1", Batch: -1}, {Name: "n", Version: "1", Serves: []string{"("}}} {
		if _, err := understand(d); err == nil {
			t.Errorf("%+v is accepted", d)
		}
	}
}
