package sippublish

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

// presenceServer is the smallest Kamailio that takes PUBLISH, without a database.
const presenceServer = `
debug=1
log_stderror=yes
fork=yes
children=1
auto_aliases=no
listen=udp:ADDR
listen=tcp:ADDR
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "pv.so"
loadmodule "presence.so"
loadmodule "presence_xml.so"
MODULES
modparam("presence", "publ_cache", 2)
modparam("presence", "subs_db_mode", 0)
modparam("presence", "max_expires", 3600)
modparam("presence_xml", "force_active", 1)
request_route {
	if (method == "PUBLISH") {
		ACCESS
		handle_publish();
		exit;
	}
	sl_send_reply("405", "Method Not Allowed");
}
`

// missing skips a test for want of something, and says how to get it. Where everything
// must run (CI, BUSYLAMP_E2E=1) that is a failure.
func missing(t *testing.T, how string) {
	t.Helper()
	if os.Getenv("CI") != "" || os.Getenv("BUSYLAMP_E2E") == "1" {
		t.Fatal(how)
	}
	t.Skip(how)
}

// kamailio starts a presence server with some modules and access control more, and returns
// its address. It is skipped where there is no Kamailio, but not where that would hide
// something.
func kamailio(t *testing.T, modules, access string) string {
	t.Helper()
	path, err := exec.LookPath("kamailio")
	if err != nil {
		path = "/usr/sbin/kamailio"
		_, err = os.Stat(path)
	}
	if err != nil {
		missing(t, "no kamailio: apt-get install kamailio kamailio-presence-modules (or make deps)")
	}
	// The port is free for both; should somebody take it meanwhile, Kamailio says so.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()

	dir := t.TempDir()
	cfg := filepath.Join(dir, "kamailio.cfg")
	if err := os.WriteFile(cfg, []byte(strings.NewReplacer("ADDR", addr, "MODULES", modules, "ACCESS", access).Replace(presenceServer)), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(path, "-f", cfg, "-DD", "-E", "-m", "64", "-M", "8", "-Y", dir, "-w", dir)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it and its children
			<-ended
		}
		if t.Failed() {
			t.Logf("kamailio: %s", log.String())
		}
	})
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return addr
		}
		select {
		case <-ended:
			t.Fatalf("kamailio ended: %s", log.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("kamailio does not listen at %s: %v", addr, err)
		}
	}
}

// TestKamailio is the contract with Kamailio's presence server.
func TestKamailio(t *testing.T) {
	addr := kamailio(t, "", "")
	for _, tc := range []struct {
		profile    Profile
		transport  string
		presentity busylamp.Presentity
	}{
		{RPID, "udp", "sip:alice@example.com"},
		{RPID, "tcp", "sip:bob%20b;x=y&z@example.com"},
		{AudioCodes, "udp", "sip:john.doe@sfb.example"},
		{RPID, "udp", busylamp.Presentity("sip:" + strings.Repeat("u", 60) + "@example.com")},
	} {
		t.Run(string(tc.profile)+"/"+tc.transport+"/"+string(tc.presentity[:9]), func(t *testing.T) {
			p := newPublisher(t, addr, tc.transport, func(c *Config) { c.Profile = tc.profile })
			publish := func(kind busylamp.Kind, tag string, want busylamp.Result) busylamp.Outcome {
				t.Helper()
				r := busylamp.Request{Kind: kind, Presentity: tc.presentity, State: busylamp.OnThePhone, Tag: tag, Expires: 600 * time.Second}
				if kind == busylamp.Remove {
					r.Expires = 0
				}
				o := p.Publish(context.Background(), r)
				if o.Result != want {
					t.Fatalf("%v: %+v", kind, o)
				}
				return o
			}
			first := publish(busylamp.Initial, "", busylamp.Accepted)
			if first.Tag == "" || first.Expires != 600*time.Second {
				t.Errorf("initial: %+v", first)
			}
			second := publish(busylamp.Refresh, first.Tag, busylamp.Accepted)
			if second.Tag == "" || second.Tag == first.Tag {
				t.Errorf("refresh: %+v after %+v", second, first)
			}
			third := publish(busylamp.Modify, second.Tag, busylamp.Accepted)
			if third.Tag == "" {
				t.Errorf("modify: %+v", third)
			}
			publish(busylamp.Remove, third.Tag, busylamp.Accepted)

			// A tag that it made itself, so that nothing but its being gone is wrong with it.
			for _, kind := range []busylamp.Kind{busylamp.Refresh, busylamp.Modify, busylamp.Remove} {
				publish(kind, third.Tag, busylamp.Gone)
			}
		})
	}
}
