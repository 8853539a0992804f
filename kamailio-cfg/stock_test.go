package kamailiocfg

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

const stockPath = "/etc/kamailio/kamailio.cfg"

// stock returns Debian's own kamailio.cfg with the additions of the README, and further
// lines at its top.
func stock(t *testing.T, top ...string) string {
	t.Helper()
	command(t, "kamailio")
	text, err := os.ReadFile(stockPath)
	if err != nil {
		t.Skipf("no stock configuration: %v", err)
	}
	cfg := string(text)
	const modules = "# ----------------- setting module-specific parameters"
	const invites = "\t# account only INVITEs\n"
	for _, place := range []string{modules, invites} {
		if strings.Count(cfg, place) != 1 {
			t.Fatalf("%s has no single line %q: is it another version?", stockPath, place)
		}
	}
	cfg = strings.Replace(cfg, modules, "include_file \""+abs(t, "busylamp.cfg")+"\"\n\n"+modules, 1)
	cfg = strings.Replace(cfg, invites, "\tif (is_method(\"INVITE\")) {\n\t\tdlg_manage();\n\t\troute(BUSYLAMP);\n\t}\n\n"+invites, 1)
	return writeConfig(t, "#!KAMAILIO\n"+strings.Join(top, "\n")+"\n"+cfg)
}

func TestStockSyntax(t *testing.T) {
	checkOK(t, stock(t))
	checkOK(t, stock(t, "#!define WITH_ANTIFLOOD"))
	checkOK(t, stock(t), "BUSYLAMP_EARLY")
}

// TestStockWithJSONRPC: the stock script has an xhttp:request of its own then.
func TestStockWithJSONRPC(t *testing.T) {
	cfg := stock(t, "#!define WITH_JSONRPC", "#!define BUSYLAMP_SKIP_XHTTP")
	const his = "event_route[xhttp:request] {\n"
	text := read(t, cfg)
	if strings.Count(text, his) != 1 {
		t.Fatalf("%s has no single %q", stockPath, his)
	}
	checkOK(t, writeConfig(t, strings.Replace(text, his, his+"\troute(BUSYLAMP_RPC);\n", 1)))
}

// TestStockCall: a call through the stock proxy with nothing but the three additions.
func TestStockCall(t *testing.T) {
	port := freePort(t)
	p := runOn(t, port, stock(t, fmt.Sprintf("listen=udp:127.0.0.1:%d\nlisten=tcp:127.0.0.1:%d\nalias=\"example.com\"", port, port)))
	c := p.listen(t)
	p.device(t, "bob", "uas.xml")
	call := p.call(t, "uac.xml", "alice", "bob", longer)
	c.until(t, "confirmed call", func() bool { return len(c.lines) == 1 })
	sameInRPC(t, p, c.expect(t, 0, "c alice bob")[0])
	call.wait(t)
	c.expect(t, 1, "x")
}
