package kamailio

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// demanded reports whether what a test needs must be there.
func demanded() bool { return os.Getenv("CI") != "" || os.Getenv("BUSYLAMP_E2E") == "1" }

// need skips, or where everything must run fails, without the programs.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		text := fmt.Sprintf("%s is not installed: apt install kamailio kamailio-extra-modules sip-tester", p)
		if demanded() {
			t.Fatal(text)
		}
		t.Skip(text)
	}
}

// start runs a program in a process group of its own, which ends with the test.
func start(t testing.TB, log io.Writer, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(cmd) })
	return cmd
}

// kill ends a program's process group. It may be called twice.
func kill(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	}
}

// freePort returns a port that is free for UDP and TCP.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		if u, err := net.ListenPacket("udp4", l.Addr().String()); err == nil {
			u.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// proxy is a Kamailio with busylamp.cfg.
type proxy struct {
	dir             string
	sip, uas, evapi int
	fifo            string
	options         []string
	log             *os.File // Kamailio's and sipp's
	cmd             *exec.Cmd
}

const proxyConfig = `#!KAMAILIO
#!define BUSYLAMP_EVAPI "127.0.0.1:%[1]d"
#!define BUSYLAMP_DUMP "%[6]s"
debug=1
log_stderror=yes
children=2
tcp_children=2
listen=udp:127.0.0.1:%[2]d
listen=tcp:127.0.0.1:%[2]d
loadmodule "tm.so"
loadmodule "tmx.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "dialog.so"
loadmodule "jsonrpcs.so"
modparam("jsonrpcs", "fifo_name", "%[3]s")
#!define BUSYLAMP_RPC_TRANSPORT 3
include_file "%[4]s"
request_route {
	if (has_totag()) {
		if (!loose_route()) {
			if (is_method("ACK") && t_check_trans()) t_relay();
			exit;
		}
		t_relay();
		exit;
	}
	if (!is_method("INVITE")) exit;
	record_route();
	dlg_manage();
	route(BUSYLAMP);
	$du = "sip:127.0.0.1:%[5]d";
	t_relay();
}
`

// newProxy starts a Kamailio, with options for its command line.
func newProxy(t testing.TB, options ...string) *proxy {
	t.Helper()
	need(t, "kamailio", "sipp")
	p := &proxy{dir: t.TempDir(), sip: freePort(t), uas: freePort(t), evapi: freePort(t), options: options}
	p.fifo = filepath.Join(p.dir, "rpc.fifo")
	include, err := filepath.Abs("../../kamailio-cfg/busylamp.cfg")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.dir, "kamailio.cfg"), fmt.Sprintf(proxyConfig, p.evapi, p.sip, p.fifo, include, p.uas, p.dump()))
	write(t, filepath.Join(p.dir, "caller.xml"), callerScenario)
	write(t, filepath.Join(p.dir, "callee.xml"), calleeScenario)
	if p.log, err = os.Create(filepath.Join(p.dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.log.Close() })
	p.start(t)
	return p
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p *proxy) start(t testing.TB) {
	t.Helper()
	args := append([]string{"-f", filepath.Join(p.dir, "kamailio.cfg"), "-DD", "-E", "-Y", p.dir,
		"-P", filepath.Join(p.dir, "pid")}, p.options...)
	p.cmd = start(t, p.log, "kamailio", args...)
	eventually(t, 20*time.Second, "Kamailio answers", func() bool {
		_, err := NewTruth(p.rpc(t, p.http())).epoch(within(t, time.Second))
		return err == nil
	}, p.tail)
}

// tail returns the end of the proxy's log.
func (p *proxy) tail() string {
	b, _ := os.ReadFile(p.log.Name())
	return string(b[max(0, len(b)-3000):])
}

func (p *proxy) rpc(t testing.TB, addr string) *RPC {
	t.Helper()
	r, err := NewRPC(addr)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// dump is the directory where the proxy may write its dialogs.
func (p *proxy) dump() string { return filepath.Join(p.dir, "dump") }

// byFile returns the truth as the proxy writes it.
func (p *proxy) byFile(t testing.TB) *Truth {
	t.Helper()
	truth := NewTruthByFile(p.rpc(t, p.http()), p.dump(), func(err error) {
		if err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(truth.dump.close)
	return truth
}

func (p *proxy) http() string { return fmt.Sprintf("http://127.0.0.1:%d/RPC", p.sip) }

// cpu is the processor time of all the proxy's processes.
func (p *proxy) cpu(t testing.TB) time.Duration {
	t.Helper()
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var ticks int
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if f[2] == strconv.Itoa(p.cmd.Process.Pid) { // its process group
			user, _ := strconv.Atoi(f[11])
			system, _ := strconv.Atoi(f[12])
			ticks += user + system
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// eventually waits for something, and fails with what explain says.
func eventually(t testing.TB, limit time.Duration, what string, ok func() bool, explain ...func() string) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			text := ""
			for _, f := range explain {
				text += "\n" + f()
			}
			t.Fatalf("not within %v: %s%s", limit, what, text)
		}
	}
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
