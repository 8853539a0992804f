package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestResync: the command reaches the engine of the running sidecar, and its errors say
// what to do.
func TestResync(t *testing.T) {
	s := &instance{t: t, path: filepath.Join(t.TempDir(), "busylamp.yaml")}
	admin := freeAddr(t)
	s.write(admin, t.TempDir(), "")
	if code, _, stderr := command(t, nil, "resync", "-c", s.path); code != 1 || !strings.Contains(stderr, "no sidecar answers at "+admin) {
		t.Errorf("without a sidecar: exit code %d, %s", code, stderr)
	}
	s.start()
	s.healthy(admin)
	for _, args := range [][]string{{"resync", "-c", s.path}, {"resync", "-c", s.path, "--proxy", "p"}} {
		code, stdout, stderr := command(t, nil, args...)
		if code != 0 || stdout != "proxy p is being compared: see /readyz\n" || stderr != "" {
			t.Errorf("%v: exit code %d\n%s%s", args, code, stdout, stderr)
		}
	}
	if code, body := s.get(admin, "/metrics"); code != 200 || !strings.Contains(body, "\nbusylamp_doubts_total 2\n") {
		t.Errorf("/metrics: %d %s", code, body)
	}
	code, stdout, stderr := command(t, nil, "resync", "--admin", admin, "--proxy", "q")
	if code != 1 || stdout != "" || !strings.Contains(stderr, `proxy "q" is not configured`) {
		t.Errorf("an unknown proxy: exit code %d\n%s%s", code, stdout, stderr)
	}
	if code, _ := s.get(admin, "/api/v1/resync"); code != 405 {
		t.Errorf("a GET: %d", code)
	}
	s.signal(syscall.SIGTERM)
	s.ends(0)
}

// TestAdminAddress: what the commands that talk to a sidecar say of its address.
func TestAdminAddress(t *testing.T) {
	off := writeFile(t, small+"admin: off\n")
	for _, tt := range []struct{ named, path, want, err string }{
		{"127.0.0.1:1", "/nowhere", "127.0.0.1:1", ""},
		{"", writeFile(t, small+"admin: 127.0.0.1:2\n"), "127.0.0.1:2", ""},
		{"", defaultPath, "127.0.0.1:9448", ""},
		{"", "/nowhere", "", "or name the sidecar's HTTP interface with --admin"},
		{"", off, "", "admin: off: this sidecar has no HTTP interface to ask: set admin: 127.0.0.1:9448 and reload"},
		{"localhost", off, "", `--admin "localhost" is not host:port: write it like 127.0.0.1:9448`},
	} {
		got, err := adminAddress(tt.named, tt.path, nil)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q of %s: %q, %v", tt.named, tt.path, got, err)
		}
	}
}
