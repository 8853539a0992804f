// Package siptest is a scripted SIP server over real sockets, for tests.
package siptest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// buffer is asked of the kernel for a UDP socket, so that bursts are not lost.
const buffer = 4 << 20

// Request is one message that a server received, and the way back.
type Request struct {
	Raw       string
	Transport string       // "UDP", "TCP" or "TLS"
	From      string       // address
	Reply     func(string) // the way back
	HangUp    func()       // TCP and TLS only
}

func (c Request) StartLine() string { return c.Raw[:strings.Index(c.Raw, "\r\n")] }

// Headers returns the header lines in their order.
func (c Request) Headers() []string {
	head, _, _ := strings.Cut(c.Raw, "\r\n\r\n")
	return strings.Split(head, "\r\n")[1:]
}

func (c Request) Header(name string) string {
	for _, h := range c.Headers() {
		if v, ok := strings.CutPrefix(h, name+": "); ok {
			return v
		}
	}
	return ""
}

func (c Request) Body() string {
	_, body, _ := strings.Cut(c.Raw, "\r\n\r\n")
	return body
}

// Answer builds a response to the request.
func (c Request) Answer(status string, headers ...string) string {
	lines := append([]string{"SIP/2.0 " + status, "Via: " + c.Header("Via"), "From: " + c.Header("From"),
		"To: " + c.Header("To") + ";tag=srv", "Call-ID: " + c.Header("Call-ID"), "CSeq: " + c.Header("CSeq")}, headers...)
	return strings.Join(append(lines, "Content-Length: 0", "", ""), "\r\n")
}

func (c Request) Accept(tag string) { c.Reply(c.Answer("200 OK", "SIP-ETag: "+tag, "Expires: 600")) }

// Server is a scripted server. It runs its script for each message in the order of
// arrival: over UDP for one at a time, over TCP for one of each connection at a time.
type Server struct {
	script func(Request)
	udp    net.PacketConn
	tcp    net.Listener
	secure bool // tcp is TLS
	wg     sync.WaitGroup

	mu    sync.Mutex
	calls []Request
	conns []net.Conn
}

// New listens on an address over "udp", "tcp" or, on the same port, "udp+tcp".
func New(t testing.TB, transports, addr string, script func(Request)) *Server {
	t.Helper()
	r := &Server{script: script}
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
		r.udp.(*net.UDPConn).SetReadBuffer(buffer)
		r.udp.(*net.UDPConn).SetWriteBuffer(buffer)
		r.wg.Go(r.readUDP)
	}
	t.Cleanup(r.Close)
	return r
}

// NewTLS listens on an address over TLS.
func NewTLS(t testing.TB, addr string, cfg *tls.Config, script func(Request)) *Server {
	t.Helper()
	l, err := tls.Listen("tcp", addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &Server{script: script, tcp: l, secure: true}
	r.wg.Go(r.accept)
	t.Cleanup(r.Close)
	return r
}

func (r *Server) Close() {
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

func (r *Server) Addr() string {
	if r.udp != nil {
		return r.udp.LocalAddr().String()
	}
	return r.tcp.Addr().String()
}

func (r *Server) received(c Request) {
	r.mu.Lock()
	r.calls = append(r.calls, c)
	r.mu.Unlock()
	if r.script != nil {
		r.script(c)
	}
}

func (r *Server) All() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Request(nil), r.calls...)
}

func (r *Server) Connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns)
}

func (r *Server) readUDP() {
	b := make([]byte, 65536)
	for {
		n, from, err := r.udp.ReadFrom(b)
		if err != nil {
			return
		}
		r.received(Request{Raw: string(b[:n]), Transport: "UDP", From: from.String(),
			Reply: func(s string) { r.udp.WriteTo([]byte(s), from) }})
	}
}

func (r *Server) accept() {
	transport := "TCP"
	if r.secure {
		transport = "TLS"
	}
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
				r.received(Request{Raw: raw, Transport: transport, From: conn.RemoteAddr().String(),
					Reply: func(s string) { io.WriteString(conn, s) }, HangUp: func() { conn.Close() }})
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
		if raw.Len() == 0 && line == "\r\n" {
			continue // RFC 3261 section 7.5: it means nothing there
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
