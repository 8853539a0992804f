package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/stack"
)

// TestSourceList: users on a list (RFC 4662) of a real Kamailio's rls are watched by one
// subscription to the list; who is not on it by one of his own. What changes is heard either
// way.
func TestSourceList(t *testing.T) {
	t.Parallel()
	const listed = 6
	sc := newScene(t, stack.KamailioOptions{})
	havePlugins(t, sc.Stack)
	users, uris := members("listed", listed)
	team := stack.List{URI: "sip:team@" + stack.Domain, Owner: "watcher@" + stack.Domain, Members: uris}
	pbx, err := sc.PBX(sc.ctx, stack.KamailioOptions{Domain: stack.Domain, Lists: []stack.List{team}})
	check(t, err)
	there, err := sc.Phones(pbx.Addr, stack.Domain)
	check(t, err)
	publish := func(user, activity string) {
		t.Helper()
		check(t, there.Publish(sc.ctx, user, stack.PIDF("sip:"+user+"@"+stack.Domain, "softphone", "", activity)))
	}
	publish(users[0], "meeting") // before anybody watches
	source := sipSource("pbx", pbx.Addr, "presence")
	source.Config["lists"] = []string{team.URI}
	sc.start(t, stack.SidecarConfig{Watch: append([]string{alice}, uris...), LogLevel: "info", Env: ownTemp(sc.Stack), Sources: []stack.SourceConfig{source}})

	sc.becomes(t, uris[0], "meeting", "pbx", "meeting")
	began := time.Now()
	for _, user := range users[1:] {
		publish(user, "busy")
	}
	publish("alice", "away")
	for i, uri := range uris[1:] {
		p := sc.becomes(t, uri, "busy", "pbx", "busy")
		if why := p.Claim("pbx").Reason; !strings.Contains(why, team.URI) {
			t.Errorf("%s is not watched by the list: %q", users[i+1], why)
		}
	}
	took := time.Since(began)
	p := sc.becomes(t, alice, "away", "pbx", "away")
	if why := p.Claim("pbx").Reason; strings.Contains(why, team.URI) {
		t.Errorf("alice is watched by a list that she is not on: %q", why)
	}
	check(t, there.Publish(sc.ctx, users[0], ""))
	publish(users[1], "presentation")
	sc.becomes(t, uris[0], "offline", "pbx", "clear")
	sc.becomes(t, uris[1], "presenting", "pbx", "presenting")
	sc.becomes(t, uris[2], "busy", "pbx", "busy") // a NOTIFY about others takes nothing from it
	t.Logf("%d members by one subscription; what %d of them published was heard %v later (the server gathers for 1 s)",
		listed, listed-1, took.Round(time.Millisecond))
}
