package stack

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// listenTest listens, and hands out what connects.
func listenTest(t *testing.T) (addr string, conns chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns = make(chan net.Conn, 8)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	return l.Addr().String(), conns
}

// through connects through a relay and returns both ends.
func through(t *testing.T, r *Relay, conns chan net.Conn) (client, server net.Conn) {
	t.Helper()
	client, err := net.Dial("tcp4", r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	select {
	case server = <-conns:
		t.Cleanup(func() { server.Close() })
	case <-time.After(10 * time.Second):
		t.Fatal("the relay does not connect")
	}
	for _, c := range []net.Conn{client, server} {
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	}
	return client, server
}

func says(t *testing.T, from, to net.Conn, word string) {
	t.Helper()
	b := make([]byte, len(word))
	if _, err := io.WriteString(from, word); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, b); err != nil || string(b) != word {
		t.Fatalf("%q arrived, not %q: %v", b, word, err)
	}
}

// hears reports whether anything, an end too, arrives within a moment.
func hears(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

func TestRelayCut(t *testing.T) {
	s := newTestStack(t)
	addr, conns := listenTest(t)
	r, err := s.Relay(addr)
	if err != nil {
		t.Fatal(err)
	}
	client, server := through(t, r, conns)
	says(t, client, server, "there")
	says(t, server, client, "and back")
	r.Cut()
	if _, err := client.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a cut is no reset: %v", err)
	}
	if late, err := net.Dial("tcp4", r.Addr); err == nil {
		if _, err := late.Read(make([]byte, 1)); err == nil {
			t.Error("a relay that is cut connects")
		}
		late.Close()
	}
	r.Heal()
	client, server = through(t, r, conns)
	says(t, server, client, "again")
	server.Close()
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the end came through as %v", err)
	}
}

// TestRelaySilence: nothing passes, not even an end, until it is over; then all does.
func TestRelaySilence(t *testing.T) {
	s := newTestStack(t)
	addr, conns := listenTest(t)
	r, err := s.Relay(addr)
	if err != nil {
		t.Fatal(err)
	}
	client, server := through(t, r, conns)
	r.Silence(false)
	io.WriteString(server, "late")
	server.Close()
	if hears(client) {
		t.Error("something came through the silence")
	}
	fresh, far := through(t, r, conns)
	says(t, fresh, far, "new connections speak")
	r.Silence(true)
	if hears(fresh) || len(conns) > 0 {
		t.Error("new connections speak in a silence of all")
	}
	dumb, err := net.Dial("tcp4", r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer dumb.Close()
	if hears(dumb) || len(conns) > 0 {
		t.Error("a new connection got through")
	}
	r.Heal()
	_ = client.SetReadDeadline(time.Now().Add(10 * time.Second))
	if b, err := io.ReadAll(client); string(b) != "late" || err != nil {
		t.Errorf("after the silence %q, %v", b, err)
	}
	select {
	case c := <-conns:
		c.Close()
	case <-time.After(10 * time.Second):
		t.Error("the connection that waited was not made")
	}
}

func TestRelayMangles(t *testing.T) {
	s := newTestStack(t)
	addr, conns := listenTest(t)
	r, err := s.EvapiRelay(addr)
	if err != nil {
		t.Fatal(err)
	}
	client, server := through(t, r, conns)
	says(t, server, client, "5:hello,0:,")
	says(t, client, server, "what the client says is not looked at")
	r.Mangle(func(payload []byte) ([]byte, bool) {
		return bytes.ToUpper(Netstring(payload)), string(payload) == "bye"
	})
	io.WriteString(server, "5:hel")
	io.WriteString(server, "lo,3:bye,5:never,")
	if b, err := io.ReadAll(client); string(b) != "5:HELLO,3:BYE," || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

func TestReadFrame(t *testing.T) {
	for in, want := range map[string]string{"5:hello,": "hello", "0:,": "", "5:hel": "EOF", "-1:": "length", "x": "EOF", "2000000:": "length"} {
		b, err := readFrame(bufio.NewReader(strings.NewReader(in)))
		if err != nil && !strings.Contains(err.Error(), want) || err == nil && string(b) != want {
			t.Errorf("%q: %q, %v; want %q", in, b, err, want)
		}
	}
}
