package main

import (
	"strings"
	"testing"
)

// publisher is small with other keys for its publisher's, proxy the same for its proxy.
func publisher(keys string) string {
	return strings.Replace(small, "server: sip:127.0.0.1:5090;transport=udp", keys, 1)
}

func proxy(keys string) string {
	return strings.Replace(small, "evapi: 127.0.0.1:8448\n    rpc: http://127.0.0.1:5060/RPC", keys, 1)
}

func domains(list string) string { return strings.Replace(small, "[example.com]", list, 1) }

const (
	evapiLine = "    evapi: 127.0.0.1:8448\n"
	dumpFix   = "write it as BUSYLAMP_DUMP in the proxy's configuration has it, such as /run/busylamp"
	rpcFix    = "write it like http://127.0.0.1:5060/RPC or fifo:/run/kamailio/kamailio_rpc.fifo"
	serverFix = "write it like sip:presence.example.com, sip:192.0.2.1:5060;transport=tcp or sips:presence.example.com"
	adminFix  = "is not a loopback address, and for now no other is allowed: " +
		"write 127.0.0.1, ::1 or localhost for the host, or off for no HTTP interface"
	unitFix    = "write a number with its unit (s, m or h), such as 600s or 10m"
	sectionFix = "write a section: keys with their values below it, further to the right"
	listFix    = `write a list, each entry on a line of its own that begins with "- "`
	domainFix  = "is not a domain: write a host name or an IP address alone, such as example.com"
	uriFix     = "the key is not the URI of a user: write it like sip:alice@example.com, in up to 255 bytes"
	missing    = "FILE: kamailio: missing: give at least one proxy, with its name, evapi and rpc\n" +
		"FILE: domains: missing: give at least one domain whose users' presence is published\n" +
		"FILE: publishers: missing: give at least one presence server, with its name and server"
)

var badFiles = []struct{ name, text, want string }{
	// What is no configuration at all.
	{"empty", "", missing},
	{"comments", "# nothing\n", missing},
	{"null", "~", missing},
	{"text", "password", `FILE: "password" is text: ` + sectionFix},
	{"list", "- a\n", "FILE: a list is here: " + sectionFix},
	{"syntax", small + "log: {level: debug\n", "FILE:8: not YAML: did not find expected ',' or '}': check the indentation, colons and quotes near there"},
	{"tab", "log:\n\tlevel: debug\n", "FILE:2: not YAML: found character that cannot start any token: check the indentation, colons and quotes near there"},
	{"anchor", "state: *x\n", "FILE: not YAML: text that begins with * needs quotes: check the indentation, colons and quotes near there"},
	{"second document", small + "---\nstate: /x\n", "FILE:9: a second document, which would be ignored: remove the line --- before it"},
	{"itself", small + "names: &n\n  sip:a@example.com: *n\n", `FILE:10: names["sip:a@example.com"]: a section is here: write one value`},

	// Keys.
	{"misspelt", small + "on-stop: keep\n", "FILE:9: on-stop: unknown key: did you mean on_stop?"},
	{"capital", small + "State: /x\n", "FILE:9: State: unknown key: did you mean state?"},
	{"misspelt and required", publisher("sever: sip:a"), "FILE:8: publishers[0].sever: unknown key: did you mean server?"},
	{"in the wrong place", small + "expires: 600s\n", "FILE:9: expires: unknown key here: it belongs at publishers[].expires"},
	{"as in the environment", small + "log_level: debug\n", "FILE:9: log_level: unknown key here: it belongs at log.level"},
	{"not known", small + "log:\n  colour: red\n", "FILE:10: log.colour: unknown key: the keys here are level, format"},
	{"odd", small + "\"a\\nb\": 1\n", `FILE:9: ["a\nb"]: unknown key: the keys here are kamailio, domains, publishers, state, admin, sides, early, names, on_stop, audit, hold, log, plugins, sources, rules, preferred_source, precedence, forwarded, published_as, endpoints, watch, watch_file, numbers, upns`},
	{"no text", small + "? [a]\n: b\n", "FILE:9: a key that is not text: write key: value"},
	{"merge", publisher("server: sip:a\n    <<: {timeout: 1s}"), `FILE:9: publishers[0]["<<"]: YAML's merge key is not supported: write the keys out`},
	{"twice", small + "state: /a\nstate: /b\n", "FILE:10: state: given on line 9 already: remove one of them"},
	{"twice below", small + "log:\n  level: info\n  level: info\n", "FILE:11: log.level: given on line 10 already: remove one of them"},
	{"name twice", small + "names:\n  sip:a@b.example: A\n  sip:a@b.example: A\n", `FILE:11: names["sip:a@b.example"]: given on line 10 already: remove one of them`},

	// Types.
	{"number for text", small + "state: 5\n", `FILE:9: state: 5 is a number: write text; in quotes it is "5"`},
	{"truth for text", small + "early: true\n", `FILE:9: early: true is true or false: write text; in quotes it is "true"`},
	{"date for text", small + "state: 2020-02-02\n", `FILE:9: state: 2020-02-02 is a date: write text; in quotes it is "2020-02-02"`},
	{"list for text", small + "state: [/x]\n", "FILE:9: state: a list is here: write one value"},
	{"null for text", small + "state:\n", "FILE:9: state: no value: write one, or remove the key for its default"},
	{"text for list", domains("example.com"), `FILE:5: domains: "example.com" is text: ` + listFix},
	{"section for list", "kamailio:\n  name: proxy1\n" + small[strings.Index(small, "domains"):], "FILE:1: kamailio: a section is here: " + listFix},
	{"number in list", domains("[5]"), `FILE:5: domains[0]: 5 is a number: write text; in quotes it is "5"`},
	{"null in list", small + "  -\n", "FILE:9: publishers[1]: an empty entry: fill it in or remove it"},
	{"text in list of sections", small + "  - sip:a\n", `FILE:9: publishers[1]: "sip:a" is text: ` + sectionFix},
	{"text for section", small + "log: debug\n", `FILE:9: log: "debug" is text: ` + sectionFix},
	{"list for names", small + "names: [a]\n", "FILE:9: names: a list is here: " + sectionFix},
	{"number for name", small + "names: {'sip:a@b.example': 5}\n", `FILE:9: names["sip:a@b.example"]: 5 is a number: write text; in quotes it is "5"`},
	{"tag", small + "state: !env HOME\n", "FILE:9: state: the tag !env is not supported: write text; in quotes it is \"HOME\""},
	{"text for number", publisher("server: sip:a\n    max_outstanding: '5'"), `FILE:9: publishers[0].max_outstanding: "5" is text: write a whole number, without quotes`},
	{"fraction", publisher("server: sip:a\n    max_outstanding: 1.5"), "FILE:9: publishers[0].max_outstanding: 1.5 is a number: write a whole number, without quotes"},
	{"control character", small + `state: "/x\0"`, `FILE:9: state: "/x\x00" has control characters or is no UTF-8: write plain text on one line`},

	// Durations and numbers.
	{"bare number", publisher("server: sip:a\n    expires: 600"), "FILE:9: publishers[0].expires: 600 has no unit: write 600s for seconds, 600m for minutes"},
	{"bare text", small + "audit: '600'\n", "FILE:9: audit: 600 has no unit: write 600s for seconds, 600m for minutes"},
	{"zero", small + "hold: 0\n", "FILE:9: hold: 0 has no unit: write 0s for seconds, 0m for minutes"},
	{"days", small + "hold: 1d\n", `FILE:9: hold: "1d" is not a duration: ` + unitFix},
	{"truth for duration", small + "hold: true\n", "FILE:9: hold: true is true or false: " + unitFix},
	{"short", small + "hold: 59s\n", "FILE:9: hold: 59s is out of range: write 1m to 24h"},
	{"negative", small + "audit: -1h\n", "FILE:9: audit: -1h is out of range: write 10s to 24h"},
	{"long", small + "audit: 25h\n", "FILE:9: audit: 25h is out of range: write 10s to 24h"},
	{"expires", publisher("server: sip:a\n    expires: 9s"), "FILE:9: publishers[0].expires: 9s is out of range: write 10s to 24h"},
	{"part of a second", publisher("server: sip:a\n    expires: 10.5s"), "FILE:9: publishers[0].expires: 10.5s is no whole number of seconds: write such as 600s"},
	{"timeout", publisher("server: sip:a\n    timeout: 6m"), "FILE:9: publishers[0].timeout: 6m is out of range: write 1s to 5m"},
	{"none outstanding", publisher("server: sip:a\n    max_outstanding: 0"), "FILE:9: publishers[0].max_outstanding: 0 is out of range: write 1 to 4096"},
	{"huge", publisher("server: sip:a\n    max_outstanding: 99999999999"), "FILE:9: publishers[0].max_outstanding: 99999999999 is out of range: write 1 to 4096"},

	// Words.
	{"sides", small + "sides: left\n", `FILE:9: sides: "left" is not known: write both, caller or callee`},
	{"early", small + "early: yes\n", `FILE:9: early: "yes" is not known: write off or publish`},
	{"on_stop", small + "on_stop: ''\n", `FILE:9: on_stop: "" is not known: write keep or withdraw`},
	{"profile", publisher("server: sip:a\n    profile: xpidf"), `FILE:9: publishers[0].profile: "xpidf" is not known: write rpid or audiocodes`},
	{"level", small + "log: {level: trace}\n", `FILE:9: log.level: "trace" is not known: write debug, info, warn or error`},
	{"format", small + "log: {format: xml}\n", `FILE:9: log.format: "xml" is not known: write text or json`},
	{"state", small + "state: ''\n", `FILE:9: state: "" is no directory: write its path, such as /var/lib/busylamp`},

	// Proxies.
	{"no proxy", "kamailio: []\n" + small[strings.Index(small, "domains"):], "FILE:1: kamailio: missing: give at least one proxy, with its name, evapi and rpc"},
	{"no evapi and rpc", proxy(""), "FILE:2: kamailio[0].evapi: missing: give the address of Kamailio's evapi module, such as 127.0.0.1:8448\n" +
		"FILE:2: kamailio[0].rpc: missing: give the address of Kamailio's JSON-RPC, such as http://127.0.0.1:5060/RPC"},
	{"evapi without port", proxy("evapi: 127.0.0.1\n    rpc: fifo:/x"), `FILE:3: kamailio[0].evapi: "127.0.0.1" is not host:port: write it like 127.0.0.1:8448`},
	{"evapi without host", proxy("evapi: ':1'\n    rpc: fifo:/x"), `FILE:3: kamailio[0].evapi: ":1" is not host:port: write it like 127.0.0.1:8448`},
	{"evapi by service", proxy("evapi: a:sip\n    rpc: fifo:/x"), `FILE:3: kamailio[0].evapi: "a:sip" has no port from 1 to 65535: write it like 127.0.0.1:8448`},
	{"evapi at a bad host", proxy("evapi: 1.2.3:4\n    rpc: fifo:/x"), `FILE:3: kamailio[0].evapi: "1.2.3:4" has no valid host: write a host name or an IP address, like 127.0.0.1:8448`},
	{"rpc by https", proxy(evapiLine[4:] + "    rpc: https://a:1/RPC"), `FILE:4: kamailio[0].rpc: "https://a:1/RPC" is not http://host:port/path: ` + rpcFix},
	{"rpc without port", proxy(evapiLine[4:] + "    rpc: http://a/RPC"), `FILE:4: kamailio[0].rpc: "http://a/RPC" is not http://host:port/path: ` + rpcFix},
	{"rpc without path", proxy(evapiLine[4:] + "    rpc: http://a:1"), `FILE:4: kamailio[0].rpc: "http://a:1" is not http://host:port/path: ` + rpcFix},
	{"rpc with a password", proxy(evapiLine[4:] + "    rpc: http://me:hunter2@a:1/RPC"), `FILE:4: kamailio[0].rpc: "http://me:(hidden)@a:1/RPC" is not http://host:port/path: ` + rpcFix},
	{"fifo", proxy(evapiLine[4:] + "    rpc: fifo:x"), `FILE:4: kamailio[0].rpc: "fifo:x" has no absolute path: ` + rpcFix},
	{"dump elsewhere", proxy(evapiLine[4:] + "    rpc: fifo:/x\n    dump: run/x"), `FILE:5: kamailio[0].dump: "run/x" is no absolute path in its shortest form: ` + dumpFix},
	{"dump by a detour", proxy(evapiLine[4:] + "    rpc: fifo:/x\n    dump: /run/x/"), `FILE:5: kamailio[0].dump: "/run/x/" is no absolute path in its shortest form: ` + dumpFix},
	{"same name", "kamailio:\n  - {name: proxy1, evapi: 'a:1', rpc: fifo:/x}" + small[len("kamailio:"):],
		`FILE:3: kamailio[1].name: "proxy1" is the name of kamailio[0], too: choose another`},
	{"too many", "kamailio: [" + strings.Repeat("{},", 65) + "]\n" + small[strings.Index(small, "domains"):], "FILE:1: kamailio: 65 entries: at most 64 are possible"},

	// Domains.
	{"no domain", domains("[]"), "FILE:5: domains: missing: give at least one domain whose users' presence is published"},
	{"a URI", domains("['sip:a.example']"), `FILE:5: domains[0]: "sip:a.example" ` + domainFix},
	{"a pattern", domains("[a.example, '*.a.example']"), `FILE:5: domains[1]: "*.a.example" ` + domainFix},
	{"not an address", domains("[300.1.2.3]"), `FILE:5: domains[0]: "300.1.2.3" ` + domainFix},
	{"no ASCII", domains("[exämple.com]"), `FILE:5: domains[0]: "exämple.com" ` + domainFix},
	{"empty", domains("['']"), `FILE:5: domains[0]: "" ` + domainFix},
	{"same domain", domains("[a.example, A.Example.]"), `FILE:5: domains[1]: "A.Example." is domains[0] again: remove one of them`},
	{"too many domains", domains("[" + strings.Repeat("a,", 1001) + "]"), "FILE:5: domains: 1001 entries: at most 1000 are possible"},

	// Publishers.
	{"no publisher", small[:strings.Index(small, "publishers")] + "publishers:\n", "FILE:6: publishers: missing: give at least one presence server, with its name and server"},
	{"no name", strings.Replace(small, "name: presence\n    ", "", 1), "FILE:7: publishers[0].name: missing: give a name, for logs and metrics"},
	{"bad name", strings.Replace(small, "name: presence", "name: a b", 1), `FILE:7: publishers[0].name: "a b" cannot be a name: write up to 64 letters, digits, -, _ and .`},
	{"no server", publisher("timeout: 5s"), "FILE:7: publishers[0].server: missing: give the presence server, such as sip:presence.example.com"},
	{"server by sips and UDP", publisher("server: sips:a;transport=udp"), `FILE:8: publishers[0].server: "sips:a;transport=udp" cannot be: sips: is by TLS. Write sip: or remove transport=udp`},
	{"server by SCTP", publisher("server: sip:a;transport=sctp"), `FILE:8: publishers[0].server: "sip:a;transport=sctp" has a transport other than udp, tcp and tls: ` + serverFix},
	{"server by itself", publisher("server: a:5060"), `FILE:8: publishers[0].server: "a:5060" is not sip:HOST[:PORT] or sips:HOST[:PORT]: ` + serverFix},
	{"server with a user", publisher("server: sip:me:hunter2@a"), `FILE:8: publishers[0].server: "sip:me:(hidden)@a" has no valid host and port: ` + serverFix},
	{"server with a misspelt parameter", publisher("server: sip:a;transprt=tcp"), `FILE:8: publishers[0].server: "sip:a;transprt=tcp" has parameters other than transport: ` + serverFix},
	{"server with a bad port", publisher("server: sip:a:0"), `FILE:8: publishers[0].server: "sip:a:0" has no valid host and port: ` + serverFix},
	{"server by bare IPv6", publisher("server: sip:2001:db8::1"), `FILE:8: publishers[0].server: "sip:2001:db8::1" has no valid host and port: ` + serverFix},
	{"tuple", publisher("server: sip:a\n    tuple_id: '0'"), `FILE:9: publishers[0].tuple_id: "0" cannot be an XML id: write up to 64 letters, digits, -, _ and ., a letter or _ first`},
	{"too many publishers", small[:strings.Index(small, "publishers")] + "publishers: [" + strings.Repeat("{},", 17) + "]\n", "FILE:6: publishers: 17 entries: at most 16 are possible"},

	// The HTTP interface.
	{"admin to the world", small + "admin: 0.0.0.0:9448\n", `FILE:9: admin: "0.0.0.0:9448" ` + adminFix},
	{"admin everywhere", small + "admin: ':9448'\n", `FILE:9: admin: ":9448" ` + adminFix},
	{"admin by name", small + "admin: example.com:9448\n", `FILE:9: admin: "example.com:9448" ` + adminFix},
	{"admin without port", small + "admin: localhost\n", `FILE:9: admin: "localhost" is not host:port: write it like 127.0.0.1:9448, or off for no HTTP interface`},

	// Display names.
	{"no URI", small + "names: {alice: A}\n", "FILE:9: names.alice: " + uriFix},
	{"no user", small + "names: {'sip:b.example': A}\n", `FILE:9: names["sip:b.example"]: ` + uriFix},
	{"no display name", small + "names: {'sip:a@b.example': ' '}\n", `FILE:9: names["sip:a@b.example"]: " " is no display name: write one, or remove the entry`},
	{"long display name", small + "names: {'sip:a@b.example': " + strings.Repeat("ä", 65) + "}\n",
		`FILE:9: names["sip:a@b.example"]: "` + strings.Repeat("ä", 40) + `"… has 130 bytes: shorten it to 128`},
	{"same presentity", small + "names:\n  sip:a@b.example: A\n  sip:a@B.example:5060: A\n", `FILE:10: names["sip:a@b.example"]: is names["sip:a@B.example:5060"] again: remove one of them`},

	{"all at once", "domain: [example.com]\nkamailio:\n  - evapi: x\nstate: 5\nsides: left\nhold: 10\n",
		"FILE: publishers: missing: give at least one presence server, with its name and server\n" +
			"FILE:1: domain: unknown key: did you mean domains?\n" +
			"FILE:3: kamailio[0].name: missing: give a name, for logs and metrics\n" +
			"FILE:3: kamailio[0].evapi: \"x\" is not host:port: write it like 127.0.0.1:8448\n" +
			"FILE:3: kamailio[0].rpc: missing: give the address of Kamailio's JSON-RPC, such as http://127.0.0.1:5060/RPC\n" +
			"FILE:4: state: 5 is a number: write text; in quotes it is \"5\"\n" +
			"FILE:5: sides: \"left\" is not known: write both, caller or callee\n" +
			"FILE:6: hold: 10 has no unit: write 10s for seconds, 10m for minutes"},
}

func TestLoadBad(t *testing.T) {
	for _, tt := range badFiles {
		t.Run(tt.name, func(t *testing.T) {
			_, lines := loadText(t, tt.text)
			wantLines(t, lines, tt.want)
		})
	}
}

func TestQuote(t *testing.T) {
	tests := []struct{ in, quoted, plain string }{
		{"a\nb", `"a\nb"`, `a\nb`},
		{"x" + strings.Repeat("ä", 60), `"x` + strings.Repeat("ä", 39) + `"…`, "x" + strings.Repeat("ä", 39) + "…"},
		{strings.Repeat("\x80", 90), `"` + strings.Repeat(`\x80`, 76) + `"…`, strings.Repeat(`\x80`, 76) + "…"},
		{"http://me:p@ss:w\n@a", `"http://me:(hidden)@a"`, "http://me:(hidden)@a"},
		{"sip:alice@example.com", `"sip:alice@example.com"`, "sip:alice@example.com"},
	}
	for _, tt := range tests {
		if got := quote(tt.in); got != tt.quoted {
			t.Errorf("quote(%q) = %s, want %s", tt.in, got, tt.quoted)
		}
		if got := bare(tt.in); got != tt.plain {
			t.Errorf("bare(%q) = %s, want %s", tt.in, got, tt.plain)
		}
	}
}
