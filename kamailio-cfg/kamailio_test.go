// Package kamailiocfg holds busylamp.cfg and the samples; its tests run them on a real
// Kamailio with real calls.
package kamailiocfg

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// bound is how long anything in these tests may take.
const bound = 20 * time.Second

// command returns the path of a program, or skips: but where the tests are meant to run
// (CI, BUSYLAMP_E2E=1) a missing program is a failure, so that nobody takes a skip for a
// pass. BUSYLAMP_KAMAILIO names another Kamailio to test with.
func command(t *testing.T, name string) string {
	t.Helper()
	asked := name
	if other := os.Getenv("BUSYLAMP_KAMAILIO"); name == "kamailio" && other != "" {
		asked = other
	}
	path, err := exec.LookPath(asked)
	if err == nil {
		return path
	}
	message := fmt.Sprintf("%s: %v; on Debian: apt install kamailio kamailio-extra-modules kamailio-presence-modules sip-tester", name, err)
	if os.Getenv("CI") != "" || os.Getenv("BUSYLAMP_E2E") == "1" {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}

// taken holds the ports that were given out: tests run side by side, and a port is free
// until its program has started.
var taken sync.Map

// freePort returns a port that is free for UDP and TCP alike.
func freePort(t *testing.T) int {
	t.Helper()
	for range 50 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := tcp.Addr().(*net.TCPAddr).Port
		udp, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		tcp.Close()
		if err != nil {
			continue
		}
		udp.Close()
		if _, loaded := taken.LoadOrStore(port, true); !loaded {
			return port
		}
	}
	t.Fatal("no port is free for UDP and TCP")
	return 0
}

// process is a program in a process group of its own.
type process struct {
	cmd  *exec.Cmd
	out  bytes.Buffer // read it after done only
	done chan struct{}
	err  error
}

// start runs a program and ends it, and whatever it started, with the test.
func start(t *testing.T, path string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(path, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.Dir = t.TempDir()
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.stop)
	return p
}

func (p *process) stop() {
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
	}
	p.kill()
}

func (p *process) kill() {
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// wait waits for the end of a program that ends by itself.
func (p *process) wait(t *testing.T) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(bound):
		p.stop()
		t.Fatalf("%s is still running after %v; it wrote:\n%s", p.cmd.Path, bound, p.out.Bytes())
	}
	if p.err != nil {
		t.Fatalf("%s %s: %v; it wrote:\n%s", p.cmd.Path, strings.Join(p.cmd.Args[1:], " "), p.err, p.out.Bytes())
	}
}

// proxy is a running Kamailio.
type proxy struct {
	*process
	ip         string
	sip, evapi int // ports; evapi is 0 for the presence server
	ctl        string
}

func (p *proxy) addr() string { return net.JoinHostPort(p.ip, strconv.Itoa(p.sip)) }

// quickHeartbeat lets the tests see ten heartbeats a second instead of one in two.
const quickHeartbeat = `BUSYLAMP_TIMER_HEARTBEAT="name=busylamp_heartbeat;interval=100000u;mode=1;"`

const presence = "sample/presence.cfg"

// sample runs sample/kamailio.cfg.
func sample(t *testing.T, defines ...string) *proxy {
	t.Helper()
	return run(t, "sample/kamailio.cfg", defines...)
}

// run runs a configuration that takes the sample's defines, and waits until it answers.
// The test goes on beside the others.
func run(t *testing.T, cfg string, defines ...string) *proxy {
	t.Helper()
	return runOn(t, freePort(t), cfg, defines...)
}

// runOn is run for a configuration that has its SIP port already.
func runOn(t *testing.T, port int, cfg string, defines ...string) *proxy {
	t.Helper()
	t.Parallel()
	cfg, err := filepath.Abs(cfg)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := &proxy{ip: "127.0.0.1", sip: port, evapi: freePort(t), ctl: "unix:" + filepath.Join(dir, "ctl")}
	args := []string{"-DD", "-E", "-f", cfg, "-Y", dir, "-w", dir, "-m", "64", "-M", "8"}
	defines = append([]string{
		"PROXY_PORT=" + strconv.Itoa(p.sip), "PRESENCE_PORT=" + strconv.Itoa(p.sip),
		"PROXY_CHILDREN=3", "PRESENCE_CHILDREN=2", "PROXY_CTL=" + strconv.Quote(p.ctl),
		fmt.Sprintf(`BUSYLAMP_EVAPI="127.0.0.1:%d"`, p.evapi),
	}, defines...)
	if !slices.Contains(defines, noHeartbeat) {
		defines = append(defines, quickHeartbeat)
	}
	for _, d := range defines {
		args = append(args, "-A", d)
		if ip, ok := strings.CutPrefix(d, "PROXY_IP="); ok {
			p.ip = strings.Trim(ip, "[]")
		}
	}
	if strings.HasSuffix(cfg, presence) {
		p.evapi = 0
	}
	p.process = start(t, command(t, "kamailio"), args...)
	p.waitUp(t)
	return p
}

func (p *proxy) waitUp(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(bound); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if p.up() {
			return
		}
		select {
		case <-p.done:
			t.Fatalf("kamailio ended at once: %v\n%s", p.err, p.out.Bytes())
		default:
		}
	}
	t.Fatalf("kamailio does not answer OPTIONS and evapi within %v", bound)
}

func (p *proxy) up() bool {
	if _, err := p.exchange(options(p.addr()), 200*time.Millisecond); err != nil {
		return false
	}
	if p.evapi == 0 {
		return true
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.evapi))
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// exchange sends a SIP request over UDP and returns the first answer.
func (p *proxy) exchange(request string, patience time.Duration) (string, error) {
	conn, err := net.Dial("udp", p.addr())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	request = strings.ReplaceAll(request, "HERE", conn.LocalAddr().String())
	if _, err := conn.Write([]byte(request)); err != nil {
		return "", err
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 65536)
	n, err := conn.Read(buf)
	return string(buf[:n]), err
}

func options(addr string) string {
	return sipRequest("OPTIONS sip:"+addr, "<sip:test@example.com>;tag=1", "<sip:"+addr+">", unique(), 1, "")
}

// sipRequest writes a request; HERE in it is the sender's address.
func sipRequest(line, from, to, callID string, cseq int, headers string) string {
	method, _, _ := strings.Cut(line, " ")
	return line + " SIP/2.0\r\nVia: SIP/2.0/UDP HERE;rport;branch=z9hG4bK" + unique() + "\r\n" +
		"From: " + from + "\r\nTo: " + to + "\r\nCall-ID: " + callID + "\r\n" +
		fmt.Sprintf("CSeq: %d %s\r\nMax-Forwards: 70\r\n", cseq, method) + headers + "Content-Length: 0\r\n\r\n"
}

// register registers a device of a user of example.com and returns its port.
func (p *proxy) register(t *testing.T, user string) int {
	t.Helper()
	port := freePort(t)
	answer, err := p.exchange(sipRequest("REGISTER sip:example.com", "<sip:"+user+"@example.com>;tag=1",
		"<sip:"+user+"@example.com>", unique(), 1,
		fmt.Sprintf("Contact: <sip:%s@127.0.0.1:%d>\r\nExpires: 600\r\n", user, port)), bound)
	if err != nil || !strings.HasPrefix(answer, "SIP/2.0 200") {
		t.Fatalf("REGISTER %s: %v %.200q", user, err, answer)
	}
	return port
}

// kamcmd runs an RPC command by the sample's control socket.
func (p *proxy) kamcmd(t *testing.T, args ...string) string {
	t.Helper()
	c := start(t, command(t, "kamcmd"), append([]string{"-s", p.ctl}, args...)...)
	c.wait(t)
	return c.out.String()
}
