package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// command runs busylamp as a user would.
func command(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(args, environ, &out, &err)
	return code, out.String(), err.String()
}

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml")
	text := "kamailio: [{name: p, evapi: 127.0.0.1:8448, rpc: http://127.0.0.1:5060/RPC}]\ndomains: [example.com]\n" +
		"publishers: [{name: s, server: sip:127.0.0.1}]\n"
	for path, text := range map[string]string{good: text, bad: text + "admn: off\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args           []string
		environ        []string
		code           int
		stdout, stderr string // what each holds
	}{
		{args: []string{"version"}, stdout: "busylamp dev"},
		{args: []string{"check", "-c", good}, stdout: "good.yaml: ok: 1 proxy, 1 publisher, 1 domain"},
		{args: []string{"check"}, environ: []string{"BUSYLAMP_CONFIG=" + good}, stdout: "ok"},
		{args: []string{"check", "-c", bad}, code: 1, stderr: "admn"},
		{args: []string{"check", "-c", good}, environ: []string{"BUSYLAMP_HOLD=5"}, code: 1, stderr: "BUSYLAMP_HOLD"},
		{args: []string{"run", "-c", bad}, code: 1, stderr: "admn"},
		{args: []string{"run", "-c", filepath.Join(dir, "none.yaml")}, code: 1, stderr: "none.yaml"},
		{args: []string{"run", "-c", good}, environ: []string{"BUSYLAMP_STATE=" + filepath.Join(good, "x")}, code: 1, stderr: "choose a directory"},
		{args: []string{"fly"}, code: 2, stderr: "fly"},
		{args: []string{"check", "extra"}, code: 2, stderr: "extra"},
	} {
		code, stdout, stderr := command(t, c.environ, c.args...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%v: exit code %d\nstdout: %s\nstderr: %s", c.args, code, stdout, stderr)
		}
		if code != 0 && (stderr == "" || stdout != "") {
			t.Errorf("%v: an error goes to standard error alone: %q, %q", c.args, stdout, stderr)
		}
	}
}
