package sipnet

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// TestAnyPeer: who wants requests from anybody is asked by another host than the server, too.
func TestAnyPeer(t *testing.T) {
	t.Parallel()
	other, err := net.ListenPacket("udp", "127.0.0.2:0")
	if err != nil {
		missing(t, fmt.Sprintf("127.0.0.2 cannot be bound (%v): add it by ip addr add 127.0.0.2/8 dev lo", err))
	}
	defer other.Close()
	srv := siptest.New(t, "udp", "127.0.0.1:0", func(c siptest.Request) {
		to, _ := net.ResolveUDPAddr("udp", c.From)
		other.WriteTo([]byte(question("NOTIFY", 1)), to)
		c.Accept("t1")
	})
	c := clientOf(t, Config{Server: targetOf(t, "sip:"+srv.Addr()), AnyPeer: true, OnRequest: func(req *sip.Request) *sip.Response {
		return sip.NewResponseFromRequest(req, 200, "OK from "+req.Source(), nil)
	}}, normal)
	accepted(t, c)
	b := make([]byte, 1500)
	other.SetReadDeadline(time.Now().Add(patience))
	n, _, err := other.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	if want := "SIP/2.0 200 OK from " + other.LocalAddr().String() + "\r\n"; !strings.HasPrefix(string(b[:n]), want) {
		t.Errorf("%s", b[:n])
	}
}

// TestPatient: with more requests than handlers, a patient client refuses none.
func TestPatient(t *testing.T) {
	t.Parallel()
	const n = 4 * maxHandlers
	for _, transport := range []string{"udp", "tcp"} {
		answers := make(chan string, n)
		srv := siptest.New(t, transport, "127.0.0.1:0", func(c siptest.Request) {
			if strings.HasPrefix(c.Raw, "SIP/2.0 ") {
				answers <- c.StartLine()
				return
			}
			for i := range n {
				c.Reply(question("NOTIFY", i+1))
			}
			c.Accept("t1")
		})
		c := clientOf(t, Config{Server: targetOf(t, "sip:"+srv.Addr()+";transport="+transport), Patient: true, OnRequest: func(req *sip.Request) *sip.Response {
			time.Sleep(5 * time.Millisecond)
			return sip.NewResponseFromRequest(req, 200, "OK", nil)
		}}, normal)
		accepted(t, c)
		for range n {
			if a := answered(t, answers); a != "SIP/2.0 200 OK" {
				t.Errorf("%s", a)
			}
		}
	}
}

// TestOnLost: the end of what a Contact has named is told, by the address that the request was
// sent from.
func TestOnLost(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			lost := make(chan netip.AddrPort, 10)
			contacts := make(chan string, 10)
			srv := siptest.New(t, transport, "127.0.0.1:0", func(c siptest.Request) {
				contacts <- c.Header("Contact")
				c.Accept("t1")
				if c.HangUp != nil {
					c.HangUp()
				}
			})
			c := clientOf(t, Config{Server: targetOf(t, "sip:"+srv.Addr()+";transport="+transport), OnLost: func(a netip.AddrPort) { lost <- a }}, normal)
			req := message(0)
			if res, err := c.Do(t.Context(), req); err != nil || res.StatusCode != 200 {
				t.Fatalf("%v, %v", res, err)
			}
			if transport == "udp" {
				c.Close()
			}
			select {
			case a := <-lost:
				if contact := <-contacts; !strings.Contains(contact, "@"+a.String()) || a.String() != req.Laddr.String() {
					t.Errorf("lost %s, sent from %s, Contact %s", a, req.Laddr.String(), contact)
				}
			case <-time.After(patience):
				t.Error("nothing is told")
			}
		})
	}
}
