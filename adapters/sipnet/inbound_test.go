package sipnet

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// asking is a server that asks its client something when that sends a request, before it
// answers that. What the client answers comes from the channel.
func asking(t *testing.T, transport string, onRequest func(*sip.Request) *sip.Response, questions ...string) <-chan string {
	t.Helper()
	answers := make(chan string, 1000)
	srv := siptest.New(t, transport, "127.0.0.1:0", func(c siptest.Request) {
		if strings.HasPrefix(c.Raw, "SIP/2.0 ") {
			answers <- c.Raw
			return
		}
		for _, q := range questions {
			c.Reply(q)
		}
		c.Accept("t1")
	})
	target, err := ParseTarget("sip:" + srv.Addr() + ";transport=" + transport)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Server: target, OnRequest: onRequest})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if res := publish(t, c, "example.com"); res.StatusCode != 200 {
		t.Fatalf("%d %s", res.StatusCode, res.Reason)
	}
	return answers
}

// question is a request of a server.
func question(method string, n int, more ...string) string {
	lines := append([]string{method + " sip:alice@127.0.0.1 SIP/2.0", "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK" + fmt.Sprint(n) + ";rport",
		"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKy", "From: <sip:server@example.com>;tag=1", "To: <sip:alice@example.com>",
		"Call-ID: c" + fmt.Sprint(n), fmt.Sprintf("CSeq: %d %s", n, method)}, more...)
	return strings.Join(append(lines, "Content-Length: 0", "", ""), "\r\n")
}

// answered waits for an answer.
func answered(t *testing.T, answers <-chan string) string {
	t.Helper()
	select {
	case a := <-answers:
		return a
	case <-time.After(20 * time.Second):
		t.Fatal("no answer")
		return ""
	}
}

// none fails if there is another answer.
func none(t *testing.T, answers <-chan string) {
	t.Helper()
	select {
	case a := <-answers:
		t.Errorf("answered %s", a)
	case <-time.After(50 * time.Millisecond):
	}
}

// TestInbound: who is not asked to do more answers OPTIONS, refuses the rest, and says
// nothing to ACK and to what is malformed. The last question shows that it still lives.
func TestInbound(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			answers := asking(t, transport, nil, question("OPTIONS", 1))
			a := answered(t, answers)
			for _, want := range []string{"SIP/2.0 200 OK\r\n", ";branch=z9hG4bK1;", "\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKy\r\n", ";received=127.0.0.1",
				"\r\nFrom: <sip:server@example.com>;tag=1\r\n", "\r\nTo: <sip:alice@example.com>;tag=", "\r\nCall-ID: c1\r\n", "\r\nCSeq: 1 OPTIONS\r\n",
				"\r\nAllow: OPTIONS\r\n", "\r\nContent-Length: 0\r\n"} {
				if !strings.Contains(a, want) {
					t.Errorf("no %q in\n%s", want, a)
				}
			}
			if a := answered(t, asking(t, transport, nil, question("NOTIFY", 2))); !strings.HasPrefix(a, "SIP/2.0 405 ") || !strings.Contains(a, "\r\nAllow: OPTIONS\r\n") {
				t.Errorf("%s", a)
			}
			var bad []string
			for _, s := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
				bad = append(bad, strings.NewReplacer("\r\n"+s+": ", "\r\nX-"+s+": ").Replace(question("OPTIONS", 3)))
			}
			bad = append(bad, question("ACK", 4), strings.Replace(question("OPTIONS", 5), "5 OPTIONS", "5 NOTIFY", 1),
				strings.Replace(question("OPTIONS", 6), " SIP/2.0\r\n", " SIP/3.0\r\n", 1), question("OPTIONS", 7, "Subject: a\nX: b"), question("OPTIONS", 8))
			answers = asking(t, transport, nil, bad...)
			if a := answered(t, answers); !strings.Contains(a, "CSeq: 8 ") {
				t.Errorf("answered %s", a)
			}
			none(t, answers)
		})
	}
}

// TestInboundHandler: the one who wants requests gets them, and its answers go back.
func TestInboundHandler(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		notify := strings.Replace(question("NOTIFY", 1, "Event: presence"), "Content-Length: 0\r\n\r\n", "Content-Length: 5\r\n\r\nhello", 1)
		answers := asking(t, transport, func(req *sip.Request) *sip.Response {
			if req.Method != sip.NOTIFY {
				return nil
			}
			return sip.NewResponseFromRequest(req, 202, string(req.Body())+" "+req.GetHeader("Event").Value()+" "+req.Transport(), nil)
		}, question("MESSAGE", 2), notify)
		if a, want := answered(t, answers), "SIP/2.0 202 hello presence "+strings.ToUpper(transport)+"\r\n"; !strings.HasPrefix(a, want) {
			t.Errorf("%s, want %s", a, want)
		}
		none(t, answers)
	}
}

// TestInboundBound: 64 requests are handled at a time, and more are told to come later. Our
// own requests go on meanwhile.
func TestInboundBound(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		hold, n := make(chan struct{}), atomic.Int32{}
		release := sync.OnceFunc(func() { close(hold) })
		defer release() // before the client is closed, which waits for handlers
		var questions []string
		for i := range maxHandlers + 10 {
			questions = append(questions, question("NOTIFY", i+1))
		}
		answers := asking(t, transport, func(req *sip.Request) *sip.Response {
			n.Add(1)
			<-hold
			return sip.NewResponseFromRequest(req, 200, "OK", nil)
		}, questions...)
		for range 10 {
			if a := answered(t, answers); !strings.HasPrefix(a, "SIP/2.0 503 ") {
				t.Errorf("%s", a)
			}
		}
		none(t, answers)
		release()
		for range maxHandlers {
			if a := answered(t, answers); !strings.HasPrefix(a, "SIP/2.0 200 ") {
				t.Errorf("%s", a)
			}
		}
		if n.Load() != maxHandlers {
			t.Errorf("%d were handled", n.Load())
		}
	}
}

// TestInboundStranger: over UDP, nobody but the server is answered.
func TestInboundStranger(t *testing.T) {
	t.Parallel()
	stranger, err := net.ListenPacket("udp", "127.0.0.2:0")
	if err != nil {
		missing(t, fmt.Sprintf("127.0.0.2 cannot be bound (%v): add it by ip addr add 127.0.0.2/8 dev lo", err))
	}
	defer stranger.Close()
	srv := siptest.New(t, "udp", "127.0.0.1:0", func(c siptest.Request) {
		to, _ := net.ResolveUDPAddr("udp", c.From)
		stranger.WriteTo([]byte(question("OPTIONS", 1)), to)
		stranger.WriteTo([]byte(question("SIP/2.0", 2)), to) // looks like an answer at first sight
		c.Accept("t1")
	})
	c := digestClient(t, srv.Addr(), "udp", "", "")
	publish(t, c, "example.com")
	stranger.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, _, err := stranger.ReadFrom(make([]byte, 1500)); err == nil {
		t.Errorf("%d bytes", n)
	}
}

// TestInboundPing: a ping (RFC 5626 section 3.5.1) has its pong, wherever it stands, and
// line ends disturb nothing.
func TestInboundPing(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := digestClient(t, l.Addr().String(), "tcp", "", "")
	done := make(chan *sip.Response, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		res, err := c.Do(ctx, publishTo("example.com"))
		if err != nil {
			t.Error(err)
		}
		done <- res
	}()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, 64<<10)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	request := siptest.Request{Raw: string(b[:n])}
	pong := func(what string) {
		t.Helper()
		if n, err := conn.Read(b); err != nil || strings.Trim(string(b[:n]), "\r\n") != "" {
			t.Fatalf("%s: %q, %v", what, b[:n], err)
		}
	}
	fmt.Fprint(conn, "\r\n\r\n")
	pong("a ping")
	fmt.Fprint(conn, "\r\n\r")
	fmt.Fprint(conn, "\n")
	pong("a ping in pieces")
	fmt.Fprint(conn, request.Answer("100 Trying")+"\r\n\r\n")
	pong("a ping after an answer")
	fmt.Fprint(conn, strings.Repeat("\r\n\r\n", 50_000)+"\r\n"+request.Answer("200 OK", "SIP-ETag: t1"))
	pong("many pings")
	if res := <-done; res == nil || res.StatusCode != 200 {
		t.Errorf("%v", res)
	}
}

// FuzzFramer: how the bytes are cut into pieces changes nothing, but for a ping more; nor does
// it whether plain answers are read without the parser.
func FuzzFramer(f *testing.F) {
	f.Add([]byte("\r\n\r\n"+question("OPTIONS", 1)+"\r\n\r\n\r\n"+question("ACK", 2)+"\r\n"), 3)
	f.Add([]byte("SIP/2.0 200 OK\r\nContent-Length: 3\r\n\r\n\r\n\rx"), 1)
	f.Add([]byte(plainAnswer+question("OPTIONS", 1)+strings.Replace(plainAnswer, "Length: 0\r\n\r\n", "Length: 3\r\n\r\nabc", 1)+plainAnswer), 5)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		if size < 1 || size > 1000 || len(b) > 10_000 {
			return
		}
		run := func(size int, glances bool) (log []string, pings int) {
			fr := framer{parser: sip.NewParser().NewSIPStream()}
			defer fr.parser.Close()
			failed := false
			for rest := b; len(rest) > 0 && !failed; {
				n := min(size, len(rest))
				failed = fr.feed(rest[:n], func(g *glimpse) bool {
					if glances {
						log = append(log, fmt.Sprintf("%s%s %d %s\n%s", cookie, g.branch[:], g.number, g.method, seen(g)))
					}
					return glances
				}, func(m sip.Message) { log = append(log, asGlimpsed(m)) }, func() { pings++ }) != nil
				rest = rest[n:]
			}
			return log, pings
		}
		whole, _ := run(len(b), false)
		for _, glances := range []bool{false, true} {
			pieces, pings := run(size, glances)
			if pings > bytes.Count(b, []byte(crlf2)) {
				t.Errorf("%d pings", pings)
			}
			for i := range min(len(whole), len(pieces)) {
				if whole[i] != pieces[i] && whole[i] != "" && pieces[i] != "" {
					t.Errorf("message %d, with glances %v: %q, %q", i, glances, whole[i], pieces[i])
				}
			}
		}
	})
}

// asGlimpsed writes a message as the parser has read it: all of it, or of an answer of 2xx what
// glance sees of it; "" where the parser does not know whose it is.
func asGlimpsed(m sip.Message) string {
	res, ok := m.(*sip.Response)
	if !ok || res.StatusCode/100 != 2 {
		return m.String()
	}
	if res.Via() == nil || res.CSeq() == nil {
		return ""
	}
	var br branch
	if value, _ := res.Via().Params.Get("branch"); !br.parse(value) {
		return ""
	}
	short := sip.NewResponse(res.StatusCode, res.Reason)
	for _, name := range []string{"SIP-ETag", "Expires"} {
		if h := res.GetHeader(name); h != nil {
			short.AppendHeader(sip.NewHeader(name, h.Value()))
		}
	}
	return fmt.Sprintf("%s%s %d %s\n%s", cookie, br[:], res.CSeq().SeqNo, res.CSeq().MethodName, short)
}
