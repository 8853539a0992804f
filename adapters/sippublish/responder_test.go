package sippublish

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/busylamp/busylamp"
)

// No goroutine outlives the publishers, sipgo's included.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a test waits for. It is a multiple of what it takes.
const patience = 20 * time.Second

const alice busylamp.Presentity = "sip:alice@example.com"

var (
	initial = busylamp.Request{Kind: busylamp.Initial, Presentity: alice, State: busylamp.OnThePhone, Expires: 600 * time.Second}
	refresh = busylamp.Request{Kind: busylamp.Refresh, Presentity: alice, Tag: "t1", Expires: 600 * time.Second}
	modify  = busylamp.Request{Kind: busylamp.Modify, Presentity: alice, State: busylamp.Ringing, Tag: "t2", Expires: 600 * time.Second}
	remove  = busylamp.Request{Kind: busylamp.Remove, Presentity: alice, Tag: "t3"}
)

// call is one message that a responder received, and the way back.
type call struct {
	raw       string
	transport string
	from      string // address
	reply     func(string)
	hangUp    func() // TCP only
}

func (c call) startLine() string { return c.raw[:strings.Index(c.raw, "\r\n")] }

// headers returns the header lines in their order.
func (c call) headers() []string {
	head, _, _ := strings.Cut(c.raw, "\r\n\r\n")
	return strings.Split(head, "\r\n")[1:]
}

func (c call) header(name string) string {
	for _, h := range c.headers() {
		if v, ok := strings.CutPrefix(h, name+": "); ok {
			return v
		}
	}
	return ""
}

func (c call) body() string {
	_, body, _ := strings.Cut(c.raw, "\r\n\r\n")
	return body
}

// answer builds a response to the call.
func (c call) answer(status string, headers ...string) string {
	lines := append([]string{"SIP/2.0 " + status, "Via: " + c.header("Via"), "From: " + c.header("From"),
		"To: " + c.header("To") + ";tag=srv", "Call-ID: " + c.header("Call-ID"), "CSeq: " + c.header("CSeq")}, headers...)
	return strings.Join(append(lines, "Content-Length: 0", "", ""), "\r\n")
}

func (c call) accept(tag string) { c.reply(c.answer("200 OK", "SIP-ETag: "+tag, "Expires: 600")) }

// responder is a scripted server. It runs its script for each message in the order of
// arrival: over UDP for one at a time, over TCP for one of each connection at a time.
type responder struct {
	script func(call)
	udp    net.PacketConn
	tcp    net.Listener
	wg     sync.WaitGroup

	mu    sync.Mutex
	calls []call
	conns []net.Conn
}

// newResponder listens on an address over "udp", "tcp" or, on the same port, "udp+tcp".
func newResponder(t testing.TB, transports, addr string, script func(call)) *responder {
	t.Helper()
	r := &responder{script: script}
	var err error
	if strings.Contains(transports, "tcp") {
		if r.tcp, err = net.Listen("tcp", addr); err != nil {
			t.Fatal(err)
		}
		addr = r.tcp.Addr().String()
		r.wg.Go(r.accept)
	}
	if strings.Contains(transports, "udp") {
		if r.udp, err = net.ListenPacket("udp", addr); err != nil {
			t.Fatal(err)
		}
		r.udp.(*net.UDPConn).SetReadBuffer(socketBuffer)
		r.udp.(*net.UDPConn).SetWriteBuffer(socketBuffer)
		r.wg.Go(r.readUDP)
	}
	t.Cleanup(r.close)
	return r
}

func (r *responder) close() {
	if r.udp != nil {
		r.udp.Close()
	}
	if r.tcp != nil {
		r.tcp.Close()
	}
	r.mu.Lock()
	for _, c := range r.conns {
		c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *responder) addr() string {
	if r.udp != nil {
		return r.udp.LocalAddr().String()
	}
	return r.tcp.Addr().String()
}

func (r *responder) received(c call) {
	r.mu.Lock()
	r.calls = append(r.calls, c)
	r.mu.Unlock()
	if r.script != nil {
		r.script(c)
	}
}

func (r *responder) all() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]call(nil), r.calls...)
}

func (r *responder) connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns)
}

func (r *responder) readUDP() {
	b := make([]byte, 65536)
	for {
		n, from, err := r.udp.ReadFrom(b)
		if err != nil {
			return
		}
		r.received(call{raw: string(b[:n]), transport: "UDP", from: from.String(),
			reply: func(s string) { r.udp.WriteTo([]byte(s), from) }})
	}
}

func (r *responder) accept() {
	for {
		conn, err := r.tcp.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.conns = append(r.conns, conn)
		r.mu.Unlock()
		r.wg.Go(func() {
			defer conn.Close()
			in := bufio.NewReader(conn)
			for {
				raw, err := readMessage(in)
				if err != nil {
					return
				}
				r.received(call{raw: raw, transport: "TCP", from: conn.RemoteAddr().String(),
					reply: func(s string) { io.WriteString(conn, s) }, hangUp: func() { conn.Close() }})
			}
		})
	}
}

func readMessage(in *bufio.Reader) (string, error) {
	var raw strings.Builder
	length := -1
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		raw.WriteString(line)
		if name, value, ok := strings.Cut(line, ":"); ok && textproto.CanonicalMIMEHeaderKey(name) == "Content-Length" {
			length, _ = strconv.Atoi(strings.TrimSpace(value))
		}
		if line == "\r\n" {
			break
		}
	}
	if length < 0 {
		return "", fmt.Errorf("no Content-Length in %q", raw.String())
	}
	body := make([]byte, length)
	_, err := io.ReadFull(in, body)
	return raw.String() + string(body), err
}

// newPublisher returns a publisher to a server's address.
func newPublisher(t testing.TB, addr, transport string, change ...func(*Config)) *Publisher {
	t.Helper()
	target, err := ParseTarget("sip:" + addr + ";transport=" + transport)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Name: "test", Server: target, Profile: RPID, UserAgent: "busylamp/test", Timeout: patience}
	for _, f := range change {
		f(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func timeout(d time.Duration) func(*Config) { return func(c *Config) { c.Timeout = d } }

// accepted publishes and expects success.
func accepted(t testing.TB, p *Publisher, r busylamp.Request) busylamp.Outcome {
	t.Helper()
	o := p.Publish(context.Background(), r)
	if o.Result != busylamp.Accepted {
		t.Fatalf("%v: %+v", r.Kind, o)
	}
	return o
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// finish runs f and fails if it takes longer than what is a bound even on a busy machine.
func finish(t testing.TB, within time.Duration, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took > within {
		t.Errorf("took %v, want at most %v", took, within)
	}
}
