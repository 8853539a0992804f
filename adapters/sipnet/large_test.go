package sipnet

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// notes is a log that may be read while it is written.
type notes struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (n *notes) Write(b []byte) (int, error) { n.mu.Lock(); defer n.mu.Unlock(); return n.b.Write(b) }
func (n *notes) String() string              { n.mu.Lock(); defer n.mu.Unlock(); return n.b.String() }

// TestLargeMessage: a message on a connection may have as many bytes as are configured, its
// headers 64 kB at most; that a larger one ends the connection is told.
func TestLargeMessage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ most, head, body, want int }{
		{0, 0, 60_000, 200}, {0, 0, 70_000, 0}, {1 << 20, 0, 1<<20 - 1000, 200}, {1 << 20, 0, 1 << 20, 0}, {1 << 20, 70_000, 10, 0},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			large := strings.Replace(question("NOTIFY", 1, "Event: presence", "Subject: "+strings.Repeat("x", c.head)), "Content-Length: 0\r\n\r\n",
				fmt.Sprintf("Content-Length: %d\r\n\r\n%s", c.body, strings.Repeat("y", c.body)), 1)
			answers := make(chan string, 10)
			srv := siptest.New(t, "tcp", "127.0.0.1:0", func(r siptest.Request) {
				if strings.HasPrefix(r.Raw, "SIP/2.0 ") {
					answers <- r.StartLine()
					return
				}
				r.Accept("t1")
				r.Reply(large)
			})
			var log notes
			lost := make(chan struct{}, 10)
			client := clientOf(t, Config{Server: targetOf(t, "sip:"+srv.Addr()+";transport=tcp"), MaxMessage: c.most, Log: slog.New(slog.NewTextHandler(&log, nil)),
				OnLost: func(netip.AddrPort) { lost <- struct{}{} },
				OnRequest: func(req *sip.Request) *sip.Response {
					return sip.NewResponseFromRequest(req, 200, fmt.Sprint(len(req.Body())), nil)
				}}, normal)
			accepted(t, client)
			select {
			case a := <-answers:
				if want := fmt.Sprintf("SIP/2.0 %d %d", c.want, c.body); a != want {
					t.Errorf("%s, want %s", a, want)
				}
			case <-lost:
				if c.want != 0 || !strings.Contains(log.String(), "too large a message") {
					t.Errorf("the connection has ended; the log: %s", log.String())
				}
			case <-time.After(patience):
				t.Fatal("neither an answer nor an end")
			}
		})
	}
}

// TestPatientOrder: a patient client has requests handled in the order of their coming, one at
// a time.
func TestPatientOrder(t *testing.T) {
	t.Parallel()
	const n = 3 * maxHandlers
	for _, transport := range []string{"udp", "tcp"} {
		done := make(chan uint32, n)
		var busy atomic.Int32
		srv := siptest.New(t, transport, "127.0.0.1:0", func(r siptest.Request) {
			if strings.HasPrefix(r.Raw, "SIP/2.0 ") {
				return
			}
			for i := range n {
				r.Reply(question("NOTIFY", i+1))
			}
			r.Accept("t1")
		})
		client := clientOf(t, Config{Server: targetOf(t, "sip:"+srv.Addr()+";transport="+transport), Patient: true, OnRequest: func(req *sip.Request) *sip.Response {
			if busy.Add(1) > 1 {
				t.Error("two at a time")
			}
			time.Sleep(time.Duration(req.CSeq().SeqNo%3) * time.Millisecond)
			done <- req.CSeq().SeqNo
			busy.Add(-1)
			return nil
		}}, normal)
		accepted(t, client)
		for i := range n {
			select {
			case got := <-done:
				if int(got) != i+1 {
					t.Fatalf("%s: %d in the place of %d", transport, got, i+1)
				}
			case <-time.After(patience):
				t.Fatalf("%s: %d of %d", transport, i, n)
			}
		}
	}
}
