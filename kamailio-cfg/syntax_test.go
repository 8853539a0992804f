package kamailiocfg

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// script is an operator's kamailio.cfg in pieces.
type script struct {
	defines []string // lines at the top
	modules []string
	params  string
	events  string // event routes of his own
	route   string // of an INVITE, before t_relay
}

const (
	usual  = "dlg_manage();\n\troute(BUSYLAMP);"
	listen = "listen=udp:127.0.0.1:PROXY_PORT\nlisten=tcp:127.0.0.1:PROXY_PORT\n"
)

var needed = []string{"tm", "sl", "rr", "pv", "dialog"}

// everything is all that busylamp.cfg loads where it is missing.
var everything = append(slices.Clone(needed), "tmx", "htable", "mqueue", "rtimer", "xhttp", "evapi", "jsonrpcs")

func (s script) write(t *testing.T) string {
	t.Helper()
	include, err := filepath.Abs("busylamp.cfg")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, d := range s.defines {
		fmt.Fprintf(&b, "#!define %s\n", d)
	}
	b.WriteString("#!trydef PROXY_PORT 5060\n" + listen + "auto_aliases=no\nchildren=2\ntcp_children=2\n")
	for _, m := range s.modules {
		fmt.Fprintf(&b, "loadmodule \"%s.so\"\n", m)
	}
	fmt.Fprintf(&b, "%s\ninclude_file %q\n%s\nrequest_route {\n\tif ($rm == \"OPTIONS\") { sl_send_reply(\"200\", \"OK\"); exit; }\n\t%s\n\tt_relay();\n}\n", s.params, include, s.events, s.route)
	return writeConfig(t, b.String())
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kamailio.cfg")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// check runs kamailio -c.
func check(t *testing.T, cfg string, defines ...string) (string, error) {
	t.Helper()
	args := []string{"-c", "-f", cfg}
	for _, d := range defines {
		args = append(args, "-A", d)
	}
	p := start(t, command(t, "kamailio"), args...)
	<-p.done
	return p.out.String(), p.err
}

func checkOK(t *testing.T, cfg string, defines ...string) {
	t.Helper()
	if out, err := check(t, cfg, defines...); err != nil {
		t.Fatalf("kamailio -c: %v\n%s", err, out)
	}
}

func TestSyntax(t *testing.T) {
	for name, s := range map[string]script{
		"minimal":               {modules: needed, route: usual},
		"nothing loaded before": {route: usual},
		"everything loaded before": {modules: everything, route: usual,
			params: `modparam("evapi", "bind_addr", "127.0.0.1:9999")`},
		"another evapi address": {defines: []string{`BUSYLAMP_EVAPI "127.0.0.1:8449"`}, modules: needed, route: usual},
		"another queue": {defines: []string{`BUSYLAMP_QUEUE "name=busylamp;size=100"`,
			`BUSYLAMP_TIMER_DRAIN "name=busylamp_drain;interval=2000u;mode=1;"`}, modules: needed, route: usual},
		"the timer":         {defines: []string{"BUSYLAMP_POLL"}, modules: needed, route: usual},
		"his async tasks":   {modules: slices.Concat(everything, []string{"async"}), params: "async_workers=2", route: usual},
		"his own transport": {defines: []string{"BUSYLAMP_RPC_TRANSPORT 3"}, modules: everything, route: usual},
		"included twice": {modules: needed, route: usual,
			events: "include_file \"" + abs(t, "busylamp.cfg") + "\""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := s.write(t)
			checkOK(t, cfg)
			checkOK(t, cfg, "BUSYLAMP_EARLY")
		})
	}
}

func abs(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// skips are the event routes that an operator may have himself, with what he calls then.
var skips = []struct{ define, event, route string }{
	{"BUSYLAMP_SKIP_HTABLE_MOD_INIT", "htable:mod-init", "BUSYLAMP_MOD_INIT"},
	{"BUSYLAMP_SKIP_DIALOG_START", "dialog:start", "BUSYLAMP_START"},
	{"BUSYLAMP_SKIP_DIALOG_END", "dialog:end", "BUSYLAMP_END"},
	{"BUSYLAMP_SKIP_DIALOG_FAILED", "dialog:failed", "BUSYLAMP_FAILED"},
	{"BUSYLAMP_SKIP_EVAPI_NEW", "evapi:connection-new", "BUSYLAMP_EVAPI_NEW"},
	{"BUSYLAMP_SKIP_EVAPI_MESSAGE", "evapi:message-received", "BUSYLAMP_EVAPI_MESSAGE"},
	{"BUSYLAMP_SKIP_XHTTP", "xhttp:request", "BUSYLAMP_RPC"},
}

func eventRoute(event, route string) string {
	return fmt.Sprintf("event_route[%s] {\n\troute(%s);\n}\n", event, route)
}

// TestSkips: every event route of ours can be the operator's, one by one and all at once;
// without the define Kamailio refuses two of one name, so the defines are needed.
func TestSkips(t *testing.T) {
	all := script{modules: needed, route: usual}
	for _, k := range skips {
		all.defines = append(all.defines, k.define)
		all.events += eventRoute(k.event, k.route)
		t.Run(k.define, func(t *testing.T) {
			s := script{modules: needed, route: usual, events: eventRoute(k.event, k.route)}
			if out, err := check(t, s.write(t), "BUSYLAMP_EARLY"); err == nil {
				t.Errorf("two event routes %s are allowed:\n%s", k.event, out)
			}
			s.defines = []string{k.define}
			checkOK(t, s.write(t))
			checkOK(t, s.write(t), "BUSYLAMP_EARLY")
		})
	}
	checkOK(t, all.write(t))
	checkOK(t, all.write(t), "BUSYLAMP_EARLY")
}

// TestSkipsAreComplete: no event route without a define, no define without a line above.
func TestSkipsAreComplete(t *testing.T) {
	text := read(t, "busylamp.cfg")
	events := regexp.MustCompile(`(?m)^event_route\[(.*)\]`).FindAllStringSubmatch(text, -1)
	if len(events) != len(skips) {
		t.Errorf("%d event routes, %d ways to skip one", len(events), len(skips))
	}
	for _, k := range skips {
		block := "#!ifndef " + k.define + "\nevent_route[" + k.event + "] {\n\troute(" + k.route + ");\n"
		if !strings.Contains(text, block) {
			t.Errorf("busylamp.cfg does not have:\n%s", block)
		}
	}
}

// TestNoDefineIsARoute: Kamailio replaces a define everywhere, even in route[NAME].
func TestNoDefineIsARoute(t *testing.T) {
	text := read(t, "busylamp.cfg")
	routes := map[string]bool{}
	for _, m := range regexp.MustCompile(`route\[(\w+)\]`).FindAllStringSubmatch(text, -1) {
		routes[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`#!(?:define|ifdef|ifndef) (\w+)`).FindAllStringSubmatch(text, -1) {
		if routes[m[1]] {
			t.Errorf("%s is a define and a route", m[1])
		}
	}
	if regexp.MustCompile(`(?m)^listen`).MatchString(text) {
		t.Error("busylamp.cfg adds a listen, which removes the operator's auto-detected interfaces")
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSamplesSyntax(t *testing.T) {
	checkOK(t, abs(t, "sample/kamailio.cfg"))
	checkOK(t, abs(t, "sample/kamailio.cfg"), "BUSYLAMP_EARLY", `PROXY_PRESENCE="sip:127.0.0.1:5090"`, "PROXY_PORT=5070")
	checkOK(t, abs(t, "sample/presence.cfg"))
	checkOK(t, abs(t, "sample/presence.cfg"), "PRESENCE_PORT=5070", "PRESENCE_MAX_EXPIRES=60")
}
