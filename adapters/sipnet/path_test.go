package sipnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// TestLostPath: one failed write takes the socket from further requests, not from those
// under way.
func TestLostPath(t *testing.T) {
	t.Parallel()
	var release atomic.Bool
	srv := siptest.New(t, "udp", "127.0.0.1:0", func(r siptest.Request) {
		if release.Load() { // by retransmissions then
			r.Accept("t1")
		}
	})
	c := clientTo(t, srv.Addr(), "udp")
	wait := begin(t, c, srv, 100)
	old := pathTo(c)
	old.broken.Store(true) // as a failed write does
	release.Store(true)
	accepted(t, c)
	if pathTo(c) == old {
		t.Error("a lost path serves further requests")
	}
	wait()
	if _, err := old.udp.WriteToUDPAddrPort(nil, old.addr); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the lost path's socket is open after its last request: %v", err)
	}
	accepted(t, c)
}

// TestBrokenSocket: a socket that cannot be used is replaced by the next request.
func TestBrokenSocket(t *testing.T) {
	t.Parallel()
	srv := siptest.New(t, "udp", "127.0.0.1:0", accept("t1"))
	c := clientTo(t, srv.Addr(), "udp")
	accepted(t, c)
	way, leave := under(t, c)
	way.udp.SetWriteDeadline(time.Unix(1, 0))
	if _, err := send(c, patience); err == nil || !strings.Contains(err.Error(), srv.Addr()) {
		t.Errorf("%v", err)
	}
	accepted(t, c)
	way.udp.SetWriteDeadline(time.Time{})
	if err := way.send([]byte("x")); err != nil {
		t.Errorf("one failed write took the socket from a request under way: %v", err)
	}
	leave()
	if err := way.send([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the broken socket is open after its last request: %v", err)
	}
	old := pathTo(c)
	old.udp.SetReadDeadline(time.Unix(1, 0))
	eventually(t, "the path is broken", old.broken.Load)
	accepted(t, c)
	if pathTo(c) == old {
		t.Error("a path without a reader is in use")
	}
	old.udp.SetWriteDeadline(time.Time{})
	if err := old.send([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the socket without a reader is open: %v", err)
	}
}

// TestSocketBuffer: with the default one, answers to a burst are lost now and then.
func TestSocketBuffer(t *testing.T) {
	size := func(c *net.UDPConn) (n int) {
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { n, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF) })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	plain, err := net.ListenUDP("udp", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	before := size(plain)
	plain.SetReadBuffer(socketBuffer)
	if size(plain) == before {
		missing(t, fmt.Sprintf("the kernel grants no more than its default of %d bytes: raise net.core.rmem_max by sysctl", before))
	}
	way, leave := under(t, clientTo(t, "127.0.0.1:9", "udp"))
	defer leave()
	if got, want := size(way.udp), size(plain); got != want {
		t.Errorf("receive buffer of %d bytes, want %d", got, want)
	}
}

// TestProvisionalsDoNotPileUp: whoever reads for all requests never waits for one of them.
func TestProvisionalsDoNotPileUp(t *testing.T) {
	p, err := newPath(t.Context(), netip.MustParseAddrPort("127.0.0.1:9"), "tcp", nil, nil, normal, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &waiter{branch: newBranch(), method: sip.PUBLISH, number: 1, answers: make(chan *sip.Response, 2)}
	p.waiting[w.branch] = w
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, status := range []string{"100 Trying", "183 Progress", "199 More", "200 OK", "200 OK", "500 Error"} {
			msg, err := sip.ParseMessage([]byte("SIP/2.0 " + status + "\r\nVia: SIP/2.0/TCP h;branch=" + cookie + string(w.branch[:]) + "\r\nCSeq: 1 PUBLISH\r\nContent-Length: 0\r\n\r\n"))
			if err != nil {
				t.Error(err)
				return
			}
			p.deliver(msg, link{}, true)
		}
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("a reader waits")
	}
	if a, b := <-w.answers, <-w.answers; a.StatusCode != 100 || b.StatusCode != 200 || len(w.answers) != 0 {
		t.Errorf("%v, %v and %d more", a.StatusCode, b.StatusCode, len(w.answers))
	}
}

// TestAnswersOfEarlierRequests: neither a second answer nor a late one is ever taken for
// the next request's, nor one whose CSeq is another's.
func TestAnswersOfEarlierRequests(t *testing.T) {
	t.Run("second", func(t *testing.T) {
		t.Parallel()
		var earlier string
		srv := siptest.New(t, "udp", "127.0.0.1:0", func(r siptest.Request) {
			r.Reply(earlier)
			earlier = r.Answer("200 OK", "SIP-ETag: "+r.Header("Call-ID"))
			r.Reply(earlier)
			r.Reply(earlier)
		})
		c := clientTo(t, srv.Addr(), "udp")
		for i := range 20 {
			if tag, want := accepted(t, c), srv.All()[i].Header("Call-ID"); tag != want {
				t.Fatalf("tag %s, want %s", tag, want)
			}
		}
	})
	t.Run("another CSeq", func(t *testing.T) {
		t.Parallel()
		srv := siptest.New(t, "udp", "127.0.0.1:0", func(r siptest.Request) {
			wrong := r.Answer("200 OK", "SIP-ETag: wrong")
			r.Reply(strings.Replace(wrong, "CSeq: 1 ", "CSeq: 2 ", 1))
			r.Reply(strings.Replace(wrong, "PUBLISH", "SUBSCRIBE", 1))
			r.Accept("right")
		})
		if tag := accepted(t, clientTo(t, srv.Addr(), "udp")); tag != "right" {
			t.Errorf("tag %s", tag)
		}
	})
	for _, transport := range []string{"udp", "tcp"} {
		t.Run("late/"+transport, func(t *testing.T) {
			t.Parallel()
			var late []string
			first := true
			srv := siptest.New(t, transport, "127.0.0.1:0", func(r siptest.Request) {
				if first {
					first = false
					late = append(late, r.Answer("200 OK", "SIP-ETag: late"))
					r.Reply(r.Answer("100 Trying"))
					return
				}
				for _, s := range late {
					r.Reply(s)
				}
				r.Accept("right")
			})
			c := clientTo(t, srv.Addr(), transport)
			if res, err := send(c, 300*time.Millisecond); !errors.Is(err, errNoAnswer) {
				t.Fatalf("%v, %v", res, err)
			}
			if tag := accepted(t, c); tag != "right" {
				t.Errorf("tag %s", tag)
			}
			if transport == "tcp" && srv.Connections() != 1 {
				t.Error("a connection on which the server was heard was given up")
			}
		})
	}
}

// TestMemory: what has ended is forgotten, be it answered or not.
func TestMemory(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0") // a siptest.Server keeps all that it gets
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 65536)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			_, rest, _ := strings.Cut(string(b[:n]), "\r\n")
			conn.WriteTo([]byte("SIP/2.0 200 OK\r\n"+rest), from)
		}
	}()
	defer func() { conn.Close(); <-done }()
	c := clientTo(t, conn.LocalAddr().String(), "udp")
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	accepted(t, c)
	before := heap()
	for range 3000 {
		accepted(t, c)
	}
	send(c, time.Nanosecond)
	if n := len(pathTo(c).waiting); n != 0 {
		t.Errorf("%d requests wait after their end", n)
	}
	if after := heap(); after > before+512<<10 {
		t.Errorf("%d kB in use after 3000 answered requests, %d before", after>>10, before>>10)
	}
}
