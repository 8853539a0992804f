package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/busylamp/busylamp/plugin"
)

// presenceServer is the smallest Kamailio that is a presence server, without a database.
const presenceServer = `
debug=1
log_stderror=yes
fork=yes
children=1
auto_aliases=no
listen=udp:ADDR
listen=tcp:ADDR
tcp_accept_aliases=yes
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "pv.so"
loadmodule "rr.so"
loadmodule "siputils.so"
loadmodule "presence.so"
loadmodule "presence_xml.so"
modparam("presence", "publ_cache", 2)
modparam("presence", "subs_db_mode", 0)
modparam("presence", "server_address", "sip:presence@ADDR")
modparam("presence_xml", "force_active", 1)
request_route {
	if (method == "SUBSCRIBE") {
		if (has_totag()) loose_route();
		force_tcp_alias();
		t_newtran();
		handle_subscribe();
		exit;
	}
	if (method == "PUBLISH") {
		handle_publish();
		exit;
	}
	sl_send_reply("405", "Method Not Allowed");
}
`

// kamailio starts a presence server and returns its address. Where everything must run, to
// have none is a failure.
func kamailio(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("kamailio")
	if err != nil {
		const how = "no kamailio: apt-get install kamailio kamailio-presence-modules (or make deps)"
		if os.Getenv("CI") != "" || os.Getenv("BUSYLAMP_E2E") == "1" {
			t.Fatal(how)
		}
		t.Skip(how)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	cfg := filepath.Join(dir, "kamailio.cfg")
	if err := os.WriteFile(cfg, []byte(strings.ReplaceAll(presenceServer, "ADDR", addr)), 0o600); err != nil {
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
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended
		}
		if t.Failed() {
			t.Logf("kamailio: %s", log.String())
		}
	})
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return addr
		}
	}
	t.Fatalf("kamailio does not listen: %s", log.String())
	return ""
}

// publish sends a PUBLISH and returns what it is answered.
func publish(t *testing.T, addr, who, body string) string {
	t.Helper()
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "PUBLISH %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%d\r\nFrom: <%s>;tag=1\r\nTo: <%s>\r\nCall-ID: %d\r\nCSeq: 1 PUBLISH\r\n"+
		"Max-Forwards: 70\r\nEvent: presence\r\nExpires: 60\r\nContent-Type: application/pidf+xml\r\nContent-Length: %d\r\n\r\n%s",
		who, conn.LocalAddr(), time.Now().UnixNano(), who, who, time.Now().UnixNano(), len(body), body)
	conn.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 4096)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(b[:n]), "\r\n")
	return first
}

// TestKamailio: what is published at a real presence server becomes a claim, over UDP and TCP;
// a refresh and the end are within the dialog.
func TestKamailio(t *testing.T) {
	t.Parallel()
	addr := kamailio(t)
	for i, transport := range []string{"udp", "tcp"} {
		who := fmt.Sprintf("sip:user%d@example.com", i)
		h, stop := start(t, map[string]any{"server": addr, "transport": transport, "uri": "sip:busylamp@example.com", "expires": "3600s"})
		h.connector(plugin.Up) // by 405 to OPTIONS
		h.watch(who)
		h.sub(who, plugin.Active)
		if a := publish(t, addr, who, onPhone(who)); a != "SIP/2.0 200 OK" {
			t.Fatalf("%s", a)
		}
		if c := h.claim(who, plugin.Busy); c.Activity != plugin.OnThePhone || time.Until(c.Until) < 50*time.Minute {
			t.Errorf("%+v", c)
		}
		h.watch(who)
		h.sub(who, plugin.Active)
		h.claim(who, plugin.Busy)
		h.unwatch(who)
		h.watch(who) // a new subscription, beside the end of the old one
		h.claim(who, plugin.Busy)
		stop()
	}
}
