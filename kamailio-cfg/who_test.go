package kamailiocfg

import (
	"strings"
	"testing"
)

// TestWhoIsWho: what the script says before route(BUSYLAMP) stands.
func TestWhoIsWho(t *testing.T) {
	for name, c := range map[string]struct{ says, want string }{
		"both": {`$dlg_var(busylamp_caller) = "sip:ann@example.com";
	$dlg_var(busylamp_callee) = "sip:bea@example.com";`, "c ann bea"},
		"nobody": {`$dlg_var(busylamp_caller) = "none";
	$dlg_var(busylamp_callee) = "none";`, "c none none"},
		"empty is unset":              {`$dlg_var(busylamp_caller) = "";`, "c alice PORT"},
		"a target without a branch":   {`route(BUSYLAMP_TARGET);`, "c alice PORT"},
		"no route(BUSYLAMP)":          {"", "c alice"},
		"a caller alone":              {`$dlg_var(busylamp_caller) = "sip:ann@example.com";`, "c ann PORT"},
		"the same as the Request-URI": {`$dlg_var(busylamp_callee) = $ru;`, "c alice PORT"},
	} {
		t.Run(name, func(t *testing.T) {
			route := strings.Replace(answering, "route(BUSYLAMP);", c.says+"\n\troute(BUSYLAMP);", 1)
			if name == "no route(BUSYLAMP)" {
				route = strings.Replace(answering, "route(BUSYLAMP);", "", 1)
			}
			p := run(t, script{modules: needed, route: route}.write(t))
			l := p.listen(t)
			o := p.anyCall(t)
			user, _, _ := strings.Cut(short(o.uri), "@")
			l.expect(t, 0, strings.Replace(c.want, "PORT", user, 1), "x")
		})
	}
}

// TestTargetInBranchRoute: a script that knows each branch's person says so there.
func TestTargetInBranchRoute(t *testing.T) {
	p := run(t, script{modules: needed,
		route: strings.Replace(answering, `t_on_reply(`, `t_on_branch("HIS"); t_on_reply(`, 1),
		events: `branch_route[HIS] {
	$avp(busylamp_target) = "sip:zoe@example.com";
	route(BUSYLAMP_BRANCH);
}`}.write(t))
	c := p.listen(t)
	p.anyCall(t)
	c.expect(t, 0, "c alice zoe", "x")
}

// TestSaidInFailureRoute: what the script says when it forwards a call stands, too,
// whatever it said before.
func TestSaidInFailureRoute(t *testing.T) {
	for name, before := range map[string]string{
		"after nothing":     "route(BUSYLAMP);",
		"after another":     `$dlg_var(busylamp_callee) = "sip:bea@example.com"; route(BUSYLAMP);`,
		"after a target":    "route(BUSYLAMP); route(BUSYLAMP_TARGET);",
		"after all of them": `$dlg_var(busylamp_callee) = "sip:bea@example.com"; route(BUSYLAMP); route(BUSYLAMP_TARGET);`,
	} {
		t.Run(name, func(t *testing.T) {
			route := strings.Replace(answering, "route(BUSYLAMP);", before, 1)
			route = strings.Replace(route, `$du = "sip:127.0.0.1:" + $rU;`, `t_on_branch("HIS"); t_on_failure("MAIL"); t_set_fr(0, 300);
	$avp(port) = $rU;
	$du = "sip:127.0.0.1:9";`, 1)
			p := run(t, script{modules: needed, route: route, events: `branch_route[HIS] {
	route(BUSYLAMP_BRANCH);
}
failure_route[MAIL] {
	$dlg_var(busylamp_callee) = "none";
	$du = "sip:127.0.0.1:" + $avp(port);
	t_on_branch("HIS");
	t_on_reply("BUSYLAMP_REPLY");
	t_relay();
}`}.write(t))
			c := p.listen(t)
			p.anyCall(t)
			c.expect(t, 0, "c alice none", "x")
		})
	}
}
