package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/busylamp/busylamp"
)

// TestRules: the worked examples of contact centres, who know one source for each agent, and
// what goes beyond them.
func TestRules(t *testing.T) {
	const seed = `rules:
  - {has_upn: true, sources: [graph]}
  - {match: 'workstreampeople\.nl', sources: [attendant]}
  - {match: 'workstreampeople\.com', sources: [attendant]}
  - {e164: true, sources: [calls]}
  - {sources: [ucma]}
`
	for _, c := range []struct{ rules, who, upn, want string }{
		{seed, "sip:example@workstreampeople.com", "", "attendant"},
		{seed, "tel:+31612345678", "", "calls"},
		{seed, "sip:example@anywhere.now", "", "ucma"},
		{seed, "sip:example@workstreampeople.com", "example@corp.example", "graph"},
		{"rules:\n  - {domains: [b.example], e164: true, sources: [ucma]}\n  - {domains: [B.example], sources: [calls, ucma]}\n", "sip:a@b.example", "", "calls ucma"},
		{"rules:\n  - {domains: [b.example], sources: [calls, ucma]}\n", "sip:a@c.example", "", ""},
		{"", "sip:a@c.example", "", "attendant calls graph ucma"},
	} {
		text := strings.Replace(small, "[example.com]", "[workstreampeople.com, anywhere.now, b.example, c.example]", 1) +
			"plugins: {allow_unpinned: true}\nsources:\n  - {name: graph, plugin: x}\n  - {name: attendant, plugin: x}\n  - {name: ucma, plugin: x}\n" + c.rules
		if c.upn != "" {
			text += "upns: {'" + c.who + "': " + c.upn + "}\n"
		}
		cfg, lines := loadText(t, text)
		wantLines(t, lines)
		var engine busylamp.Config
		if err := addSources(&engine, cfg, newDirectory(cfg)); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, name := range []string{"attendant", "calls", "graph", "ucma"} {
			if engine.Speaks == nil || slices.Contains(engine.Speaks(busylamp.Presentity(c.who)), name) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.who, got, c.want)
		}
	}
}

// TestTable: what the configuration makes of the precedence.
func TestTable(t *testing.T) {
	order := func(names ...string) (out busylamp.Precedence) {
		for _, n := range names {
			out = append(out, stateNamed(n))
		}
		return out
	}
	for _, c := range []struct {
		text string
		want busylamp.Precedence
	}{
		{"", busylamp.DefaultPrecedence()},
		{"forwarded: state", slices.Insert(busylamp.DefaultPrecedence(), 1, busylamp.Forwarded)},
		{"precedence: [busy, do-not-disturb]\nforwarded: state", order("busy", "do-not-disturb", "forwarded")},
		{"precedence: [forwarded, busy]\nforwarded: state", order("forwarded", "busy")},
		{"precedence: [busy]\nforwarded: state", order("forwarded", "busy")},
	} {
		cfg, lines := loadText(t, small+c.text+"\npublished_as: {away: nothing, presenting: do-not-disturb}\n")
		wantLines(t, lines)
		got, shown := cfg.table()
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, want %v", c.text, got, c.want)
		}
		if as, ok := shown[busylamp.Away]; !ok || as != busylamp.Unknown || shown[busylamp.Presenting] != busylamp.DoNotDisturb {
			t.Errorf("published as %v", shown)
		}
	}
}

// TestOtherCallFollows: a call that a source sees is published as ours are, unless the
// configuration tells them apart.
func TestOtherCallFollows(t *testing.T) {
	for text, want := range map[string]string{
		"on-the-phone: busy":                           "busy",
		"on-the-phone: nothing":                        "unknown",
		"on-the-phone: busy, other-call: on-the-phone": "on-the-phone",
		"on-the-phone: busy, other-call: nothing":      "unknown",
		"other-call: busy":                             "busy",
		"away: nothing":                                "",
	} {
		cfg, lines := loadText(t, small+"published_as: {"+text+"}\n")
		wantLines(t, lines)
		_, shown := cfg.table()
		got := ""
		if as, ok := shown[busylamp.OtherCall]; ok {
			got = as.String()
		}
		if got != want {
			t.Errorf("%s: other-call as %q, want %q", text, got, want)
		}
	}
}

// TestNumbersAreNamed: a number of ours can be named wherever a presentity can, and comes out
// in the one form that its calls have.
func TestNumbersAreNamed(t *testing.T) {
	cfg, lines := loadText(t, strings.TrimSuffix(small, "\n")+"\n    filter: {users: ['tel:+31-612-345678', 'sip:alice@example.com']}\n"+
		"numbers: ['+31612']\nwatch: ['tel:+31612345678']\n"+
		"endpoints:\n  - {presentity: 'tel:+31612345678'}\n  - {presentity: 'sip:desk@example.com', state: calls, busy_at: 2}\n")
	wantLines(t, lines)
	const number = "tel:+31612345678"
	if f := cfg.Publishers[0].Filter; !slices.Equal(f.Users, []string{number, "sip:alice@example.com"}) {
		t.Errorf("filter: %q", f.Users)
	}
	if cfg.Watch[0] != number || cfg.Endpoints[0].Presentity != number || cfg.Endpoints[1].BusyAt != 2 {
		t.Errorf("watch %q, endpoints %+v", cfg.Watch, cfg.Endpoints)
	}
}

// TestNumbers: a number of ours is that number at any host, in calls too.
func TestNumbers(t *testing.T) {
	cfg, lines := loadText(t, small+"numbers: ['+31612']\n")
	wantLines(t, lines)
	d := newDirectory(cfg)
	for uri, want := range map[string]busylamp.Presentity{
		"tel:+31612345678": "tel:+31612345678", "sip:+31612345678@gateway.example;user=phone": "tel:+31612345678",
		"sip:+31-612-345678@example.com": "tel:+31612345678", "tel:+31700000000": "", "sip:+31700000000@example.com": "sip:+31700000000@example.com",
		"sip:31612345678@gateway.example": "", "sip:alice@example.com": "sip:alice@example.com",
	} {
		if got, err := d.Presentity(uri); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", uri, got, err, want)
		}
	}
}

// TestBadSources: errors name the key, its value and the fix.
func TestBadSources(t *testing.T) {
	source := func(keys string) string { return "sources:\n  - {name: pbx2, plugin: p, " + keys + "}\n" }
	const endpointFix = "write calls, available, away, busy, meeting, on-the-phone, presenting or do-not-disturb"
	pin := `sha256: "` + strings.Repeat("ab", 32) + `"`
	for _, c := range []struct{ text, want string }{
		{source("mtls: on"), "sources[0].sha256: missing: have it written by: busylamp plugin pin pbx2 (or, where you alone can write to plugins.dir, set plugins: allow_unpinned: true)"},
		{source("sha256: xyz"), `sources[0].sha256: "xyz" is no SHA-256 of 64 hexadecimal digits: have it written by: busylamp plugin pin pbx2`},
		{"sources:\n  - {name: calls, plugin: ../p, " + pin + "}\n", `sources[0].name: "calls" is the name of the built-in source of calls, too: choose another
sources[0].plugin: "../p" is no plain file name: write one of those in "/usr/lib/busylamp/plugins"`},
		{source(pin + ", same_system_as: [presencee]"), `sources[0].same_system_as[0]: "presencee" is no publisher: did you mean presence?`},
		{source(pin + ", max_failed_subscription_delay: 10s"), "sources[0].max_failed_subscription_delay: 10s is less than failed_subscription_delay, which is 15m0s: write that at least"},
		{source(pin + ", config: {a: {1: x}}"), "sources[0].config.a: cannot be passed on to the plugin: write text, numbers, true or false, lists, and sections whose keys are text"},
		{"rules:\n  - {sources: [pbx]}\n  - {match: '(', sources: [calls]}\n", "rules[0]: matches everybody, so that the rules after it are never looked at: move it to the end, or give it a condition\n" +
			`rules[0].sources[0]: "pbx" is no source: write calls` + "\n" +
			"rules[1].match: \"(\" is no regular expression, missing closing ) \"(\": write one of RE2's, such as ^sip:1[0-9]{3}@"},
		{"preferred_source: x\n", `preferred_source: "x" is none of sources: there is none`},
		{"precedence: [busy, bussy, busy]\n", `precedence[1]: "bussy" is no state: did you mean busy?
precedence[2]: "busy" is there twice: remove one of them`},
		{"precedence: [busy, forwarded]\n", `precedence[1]: "forwarded" is no state while forwarded is flag: set forwarded: state, or remove it here`},
		{"published_as: {away: gone}\n", `published_as.away: "gone" is no state: write offline, available, away, ringing, busy, meeting, on-the-phone, presenting, do-not-disturb, other-call or forwarded`},
		{"published_as: {available: busy, offline: away, away: offline}\n", `published_as.available: "busy" cannot be: available is also what everybody is of whom nothing is known, and that is published by publishing nothing: remove it
published_as.offline: "away" cannot be: offline is also what everybody is of whom nothing is known, and that is published by publishing nothing: remove it
published_as.away: "offline" is nothing that is published: write nothing`},
		{"published_as: {available: nothing, offline: nothing, away: available}\n", ""},
		{"endpoints:\n  - {presentity: desk}\n  - {presentity: 'sip:d@example.com', state: open}\n", `endpoints[0].presentity: "desk" is not the URI of an endpoint: write it like sip:helpdesk@example.com
endpoints[1].state: "open" is no state of an endpoint: ` + endpointFix},
		{"endpoints:\n  - {presentity: 'sip:d@example.com', state: forwarded}\n  - {presentity: 'sip:e@example.com', state: ringing}\n" +
			"  - {presentity: 'sip:f@example.com', state: other-call}\n  - {presentity: 'sip:g@example.com', state: offline}\n",
			`endpoints[0].state: "forwarded" is no state of an endpoint: ` + endpointFix + `
endpoints[1].state: "ringing" is no state of an endpoint: ` + endpointFix + `
endpoints[2].state: "other-call" is no state of an endpoint: ` + endpointFix + `
endpoints[3].state: "offline" is no state of an endpoint: ` + endpointFix},
		{"endpoints:\n  - {presentity: 'sip:d@example.com', busy_at: 1}\n  - {presentity: 'sip:e@example.com', state: away, busy_at: 3}\n",
			`endpoints[0].busy_at: 1 has no effect beside state: available: set state: calls, or remove it
endpoints[1].busy_at: 3 has no effect beside state: away: set state: calls, or remove it`},
		{"numbers: ['+31612']\nendpoints:\n  - {presentity: 'sip:d@exmaple.com'}\n  - {presentity: 'sip:+31612345678@example.com'}\n  - {presentity: 'tel:+31700000000'}\n",
			`endpoints[0].presentity: "sip:d@exmaple.com" ` + nowhere + `did you mean example.com?
endpoints[1].presentity: "sip:+31612345678@example.com" is a number of ours, at whatever host: write tel:+31612345678
endpoints[2].presentity: "tel:+31700000000" begins like none of the top-level numbers, and whoever does not is published nowhere: add its beginning there, or remove it here`},
		{"watch: ['sip:a@elsewhere.org', alice]\n", `watch[0]: "sip:a@elsewhere.org" ` + nowhere + `add it there, or remove it here
watch[1]: "alice" is not the URI of a user: write it like sip:alice@example.com or tel:+31612345678`},
		{"numbers: ['+31612']\nwatch: ['sip:+31612345678@example.com']\n", `watch[0]: "sip:+31612345678@example.com" is a number of ours, at whatever host: write tel:+31612345678`},
		{"    filter: {users: ['sip:+31612345678@example.com', 'tel:+31700000000']}\nnumbers: ['+31612']\n",
			`publishers[0].filter.users[0]: "sip:+31612345678@example.com" is a number of ours, at whatever host: write tel:+31612345678
publishers[0].filter.users[1]: "tel:+31700000000" begins like none of the top-level numbers, and whoever does not is published nowhere: add its beginning there, or remove it here`},
		{"watch_file: /nonexistent\n", `watch_file: "/nonexistent" cannot be read: no such file or directory: name a file with a URI on each line`},
		{"numbers: ['31612']\n", `numbers[0]: "31612" is not the beginning of an E.164 number: write "+" and 1 to 15 digits, in quotes`},
	} {
		_, lines := loadText(t, small+c.text)
		for i := range lines {
			_, lines[i], _ = strings.Cut(lines[i], ": ")
		}
		want := strings.Split(c.want, "\n")
		if c.want == "" {
			want = nil
		}
		slices.Sort(lines)
		slices.Sort(want)
		if !slices.Equal(lines, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", c.text, strings.Join(lines, "\n"), strings.Join(want, "\n"))
		}
	}
}
