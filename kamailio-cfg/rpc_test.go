package kamailiocfg

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// post sends a body to a proxy's HTTP server.
func (p *proxy) post(t *testing.T, path, body string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.addr()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// rpc asks as the sidecar does.
func (p *proxy) rpc(t *testing.T, result any, method string, params ...string) {
	t.Helper()
	quoted, err := json.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	status, body := p.post(t, "/RPC", fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, method, quoted))
	if status != http.StatusOK {
		t.Fatalf("%s: status %d %s", method, status, body)
	}
	var reply struct{ Result json.RawMessage }
	if err := json.Unmarshal([]byte(body), &reply); err != nil {
		t.Fatalf("%s: %v in %.300s", method, err, body)
	}
	if err := json.Unmarshal(reply.Result, result); err != nil {
		t.Fatalf("%s: %v in %.300s", method, err, body)
	}
}

// sameInRPC checks that dlg.dlg_list says of a call what its line said.
func sameInRPC(t *testing.T, p *proxy, l line) {
	t.Helper()
	var dialog struct {
		Entry     int                 `json:"h_entry"`
		ID        int                 `json:"h_id"`
		FromURI   string              `json:"from_uri"`
		Variables []map[string]string `json:"variables"`
	}
	p.rpc(t, &dialog, "dlg.dlg_list", l.callID)
	if id := fmt.Sprintf("%d:%d", dialog.Entry, dialog.ID); id != l.dialog {
		t.Errorf("dlg.dlg_list: dialog %s, line: %s", id, l.dialog)
	}
	vars := map[string]string{"busylamp_caller": dialog.FromURI}
	for _, v := range dialog.Variables {
		for name, value := range v {
			vars[name] = value
		}
	}
	if vars["busylamp_caller"] != l.caller || vars["busylamp_callee"] != l.callee {
		t.Errorf("dlg.dlg_list: %v, line: %v", vars, l)
	}
}

const (
	briefing = `{"jsonrpc":"2.0","id":1,"method":"dlg.briefing","params":["scF"]}`
	getEpoch = `{"jsonrpc":"2.0","id":1,"method":"htable.get","params":["busylamp","epoch"]}`
)

func TestRPCAnswersOnlyItsMethods(t *testing.T) {
	p := sample(t)
	for name, c := range map[string]struct {
		path, body string
		status     int
	}{
		"briefing":           {"/RPC", briefing, 200},
		"epoch":              {"/RPC", getEpoch, 200},
		"one dialog":         {"/RPC", `{"jsonrpc":"2.0","id":77,"method":"dlg.dlg_list","params":["a","b"]}`, 200},
		"another table":      {"/RPC", `{"jsonrpc":"2.0","id":1,"method":"htable.get","params":["forward","x"]}`, 403},
		"another method":     {"/RPC", `{"jsonrpc":"2.0","id":1,"method":"core.kill","params":[]}`, 403},
		"dlg.list":           {"/RPC", `{"jsonrpc":"2.0","id":1,"method":"dlg.list"}`, 403},
		"a file":             {"/RPC", `{"jsonrpc":"2.0","id":1,"method":"dlg.dump_file","params":["/run/busylamp/dialogs-ABCDEFGHIJKLMNOPQRSTUVWXYZ"]}`, 403},
		"two methods":        {"/RPC", `{"jsonrpc":"2.0","id":1,"method":"core.kill","method":"dlg.briefing"}`, 403},
		"a method in the id": {"/RPC", `{"jsonrpc":"2.0","id":"\"method\":\"dlg.briefing\"","method":"core.kill"}`, 403},
		"a longer method":    {"/RPC", `{"jsonrpc":"2.0","id":1,"method":"dlg.briefing_x"}`, 403},
		"a batch":            {"/RPC", "[" + briefing + "]", 403},
		"nothing":            {"/RPC", "", 403},
		"no JSON":            {"/RPC", `{"jsonrpc":"2.0","id":1,"method":"dlg.briefing","params":[`, 500},
		"another path":       {"/", briefing, 404},
		"a path below":       {"/RPC/x", briefing, 404},
	} {
		status, body := p.post(t, c.path, c.body)
		if status != c.status {
			t.Errorf("%s: status %d, want %d: %.200s", name, status, c.status, body)
		}
	}
	var dialogs []any
	p.rpc(t, &dialogs, "dlg.briefing", "scF")
	if len(dialogs) != 0 {
		t.Errorf("dialogs %v, want none", dialogs)
	}
}

// TestRPCDump: Kamailio writes its dialogs where BUSYLAMP_DUMP says, into a file that the
// sidecar has made up a name for, and nowhere else.
func TestRPCDump(t *testing.T) {
	dir := t.TempDir()
	p := sample(t, fmt.Sprintf("BUSYLAMP_DUMP=%q", dir))
	const name = "dialogs-ABCDEFGHIJKLMNOPQRSTUVWX23"
	for path, want := range map[string]int{
		dir + "/" + name:                                  200,
		dir + "/" + name[:len(name)-1]:                    403,
		dir + "/" + name + "A":                            403,
		dir + "/other":                                    403,
		dir + "/dialogs-/../" + name:                      403,
		dir + "x/" + name:                                 403,
		filepath.Dir(dir) + "/" + name:                    403,
		"/etc/" + name:                                    403,
		strings.TrimPrefix(dir, "/") + "/" + name:         403,
		dir + "/" + name + `","` + dir + "/" + name:       403,
		dir + "/" + name + `"],"x":["` + dir + "/" + name: 403,
	} {
		status, body := p.post(t, "/RPC", `{"jsonrpc":"2.0","id":1,"method":"dlg.dump_file","params":["`+path+`"]}`)
		if status != want {
			t.Errorf("%s: status %d, want %d: %.200s", path, status, want, body)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 || files[0].Name() != name {
		t.Errorf("files %v, %v", files, err)
	}
}

// TestRPCEpoch: the epoch in the frames is the one that JSON-RPC tells.
func TestRPCEpoch(t *testing.T) {
	p := sample(t)
	c := p.listen(t)
	var reply struct{ Item struct{ Value string } }
	p.rpc(t, &reply, "htable.get", "busylamp", "epoch")
	if epoch, _ := c.last(); reply.Item.Value != epoch || !strings.Contains(epoch, ".") {
		t.Errorf("epoch %q in frames, %q by JSON-RPC", epoch, reply.Item.Value)
	}
}

// TestRPCWithoutHTTP: where jsonrpcs has no HTTP transport, an error and no hang.
func TestRPCWithoutHTTP(t *testing.T) {
	fifo := `modparam("jsonrpcs", "fifo_name", "` + t.TempDir() + `/fifo")`
	p := run(t, script{modules: everything, route: usual, params: fifo + evapiHere,
		defines: []string{"BUSYLAMP_RPC_TRANSPORT 2"}}.write(t))
	if status, body := p.post(t, "/RPC", briefing); status != 500 || !strings.Contains(body, "transport") {
		t.Errorf("status %d %s, want 500 and why", status, body)
	}
}

// TestRPCBesideHisTransports: an operator's jsonrpcs gains HTTP, even where its own
// transports cannot be opened.
func TestRPCBesideHisTransports(t *testing.T) {
	paths := `modparam("jsonrpcs", "fifo_name", "/nowhere/fifo")
modparam("jsonrpcs", "dgram_socket", "/nowhere/sock")`
	p := run(t, script{modules: everything, route: usual, params: paths + evapiHere}.write(t))
	if status, body := p.post(t, "/RPC", briefing); status != 200 {
		t.Errorf("status %d %s", status, body)
	}
}

// TestRPCFromElsewhere: only loopback is answered.
func TestRPCFromElsewhere(t *testing.T) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		ip := a.(*net.IPNet).IP
		if ip.To4() == nil || ip.IsLoopback() {
			continue
		}
		p := sample(t, "PROXY_IP="+ip.String())
		if status, body := p.post(t, "/RPC", briefing); status != 403 || !strings.Contains(body, "loopback") {
			t.Errorf("from %s: status %d %s", ip, status, body)
		}
		return
	}
	t.Skip("this machine has no address but loopback")
}

func TestRPCOverIPv6(t *testing.T) {
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skipf("no IPv6: %v", err)
	} else {
		l.Close()
	}
	p := sample(t, "PROXY_IP=[::1]")
	if status, body := p.post(t, "/RPC", briefing); status != 200 {
		t.Errorf("from ::1: status %d %s", status, body)
	}
}
