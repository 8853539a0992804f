package sippublish

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

// begin publishes n times beside the test, to a server that holds its answers back.
func begin(t *testing.T, p *Publisher, srv *responder, n int) (wait func()) {
	t.Helper()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if o := p.Publish(context.Background(), initial); o.Result != busylamp.Accepted {
				t.Errorf("a request under way: %+v", o)
			}
		})
	}
	eventually(t, "requests under way", func() bool { return len(srv.all()) >= n })
	return wg.Wait
}

// held is a script that answers when the test lets it, and by retransmissions then.
func held(release *atomic.Bool, tag string) func(call) {
	return func(c call) {
		if release.Load() {
			c.accept(tag)
		}
	}
}

// TestLostPath: one failed write takes the socket from further requests, not from those
// under way.
func TestLostPath(t *testing.T) {
	t.Parallel()
	var release atomic.Bool
	srv := newResponder(t, "udp", "127.0.0.1:0", held(&release, "t1"))
	p := newPublisher(t, srv.addr(), "udp")
	wait := begin(t, p, srv, 100)
	p.mu.Lock()
	old := p.path
	p.mu.Unlock()
	old.broken.Store(true) // as a failed write does
	release.Store(true)
	accepted(t, p, initial)
	p.mu.Lock()
	if p.path == old {
		t.Error("a lost path serves further requests")
	}
	p.mu.Unlock()
	wait()
	if _, err := old.udp.WriteToUDPAddrPort(nil, old.addr); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the lost path's socket is open after its last request: %v", err)
	}
	accepted(t, p, initial)
}

// TestBrokenSocket: a socket that cannot be used is replaced by the next request.
func TestBrokenSocket(t *testing.T) {
	srv := newResponder(t, "udp", "127.0.0.1:0", func(c call) { c.accept("t1") })
	p := newPublisher(t, srv.addr(), "udp")
	accepted(t, p, initial)
	way, err := p.enter(mustResolve(t, p)) // somebody else's request
	if err != nil {
		t.Fatal(err)
	}
	way.udp.SetWriteDeadline(time.Unix(1, 0))
	if o := p.Publish(context.Background(), initial); o.Result != busylamp.Failed || !strings.Contains(o.Reason, srv.addr()) {
		t.Errorf("%+v", o)
	}
	accepted(t, p, initial)
	way.udp.SetWriteDeadline(time.Time{})
	if err := way.send([]byte("x")); err != nil {
		t.Errorf("one failed write took the socket from a request under way: %v", err)
	}
	p.leave(way)
	if err := way.send([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the broken socket is open after its last request: %v", err)
	}
	old := p.path
	old.udp.SetReadDeadline(time.Unix(1, 0))
	eventually(t, "the path is broken", old.broken.Load)
	accepted(t, p, initial)
	if p.path == old {
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
	way, err := newPath(netip.MustParseAddrPort("127.0.0.1:9"), "udp")
	if err != nil {
		t.Fatal(err)
	}
	defer way.close()
	if got, want := size(way.udp), size(plain); got != want {
		t.Errorf("receive buffer of %d bytes, want %d", got, want)
	}
}

// TestAddressChange: requests under way end at the old address, further ones go to the new.
func TestAddressChange(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			answer := make(chan struct{})
			first := newResponder(t, transport, "127.0.0.1:0", func(c call) {
				select {
				case <-answer:
				case <-time.After(patience):
				}
				c.accept("first")
			})
			_, port, _ := net.SplitHostPort(first.addr())
			second := newResponder(t, transport, "127.0.0.2:"+port, func(c call) { c.accept("second") })

			var addr atomic.Value
			addr.Store("127.0.0.1")
			p := newPublisher(t, "presence.test:"+port, transport)
			p.name.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
				return []netip.Addr{netip.MustParseAddr(addr.Load().(string))}, nil
			}
			wait := begin(t, p, first, 1)
			addr.Store("127.0.0.2")
			p.name.age()
			eventually(t, "the new address is known", func() bool {
				a, _ := p.name.resolve(t.Context(), p.life, &p.busy)
				return a.String() == second.addr()
			})
			if o := accepted(t, p, initial); o.Tag != "second" {
				t.Errorf("%+v", o)
			}
			close(answer)
			wait()
			if transport == "tcp" {
				first.mu.Lock()
				old := first.conns[0]
				first.mu.Unlock()
				eventually(t, "the old connection is closed", func() bool {
					_, err := old.Write([]byte("\r\n"))
					return err != nil
				})
			}
		})
	}
}

// age makes the answer of DNS stale.
func (r *resolver) age() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = time.Time{}
}

// TestSlowName: once an address is known, nobody waits for DNS.
func TestSlowName(t *testing.T) {
	srv := newResponder(t, "udp", "127.0.0.1:0", func(c call) { c.accept("t1") })
	_, port, _ := net.SplitHostPort(srv.addr())
	p := newPublisher(t, "presence.test:"+port, "udp")
	var asked atomic.Int32
	p.name.lookup = func(ctx context.Context, _, _ string) ([]netip.Addr, error) {
		if asked.Add(1) > 1 {
			<-ctx.Done() // a server that does not answer
			return nil, ctx.Err()
		}
		return []netip.Addr{netip.MustParseAddr("::ffff:127.0.0.1")}, nil
	}
	accepted(t, p, initial)
	p.name.age()
	finish(t, dnsTimeout/2, func() {
		for range 100 {
			accepted(t, p, initial)
		}
	})
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
	finish(t, dnsTimeout/2, func() { p.Close() })
}

func TestNames(t *testing.T) {
	ips, err := net.DefaultResolver.LookupNetIP(t.Context(), "ip", "localhost")
	if err != nil {
		missing(t, fmt.Sprintf("no localhost (%v): write 127.0.0.1 localhost into /etc/hosts", err))
	}
	srv := newResponder(t, "tcp", netip.AddrPortFrom(ips[0].Unmap(), 0).String(), func(c call) { c.accept("t1") })
	_, port, _ := net.SplitHostPort(srv.addr())
	accepted(t, newPublisher(t, "localhost:"+port, "tcp"), initial)

	for _, lookup := range []func(context.Context, string, string) ([]netip.Addr, error){
		func(_ context.Context, _, host string) ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		},
		func(context.Context, string, string) ([]netip.Addr, error) { return nil, nil },
	} {
		p := newPublisher(t, "presence.test", "udp")
		p.name.lookup = lookup
		o := p.Publish(t.Context(), initial)
		if want := "name of server sip:presence.test:5060;transport=udp: "; o.Result != busylamp.Failed || len(o.Reason) <= len(want) || o.Reason[:len(want)] != want {
			t.Errorf("%+v", o)
		}
	}
}

// TestAddressStays: DNS that shuffles its answers does not move publications about.
func TestAddressStays(t *testing.T) {
	a, b, c := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	r := resolver{target: Target{Host: "presence.test"}}
	for _, tc := range []struct {
		ips  []netip.Addr
		err  error
		want netip.Addr
	}{
		{[]netip.Addr{a, b}, nil, a},
		{[]netip.Addr{b, a}, nil, a},
		{nil, errors.New("broken"), a},
		{nil, nil, a},
		{[]netip.Addr{c, b}, nil, c},
	} {
		r.answered(tc.ips, tc.err)
		if r.addr != netip.AddrPortFrom(tc.want, 5060) {
			t.Errorf("%v, %v: %v", tc.ips, tc.err, r.addr)
		}
	}
}

func TestParseTarget(t *testing.T) {
	for s, want := range map[string]Target{
		"sip:127.0.0.1:5090;transport=udp":       {"127.0.0.1", 5090, "udp"},
		"sip:presence.example.com":               {"presence.example.com", 0, "udp"},
		"sip:presence.example.com;transport=TCP": {"presence.example.com", 0, "tcp"},
		"sip:[2001:db8::1]:5061;transport=tcp":   {"2001:db8::1", 5061, "tcp"},
		"sip:[::1]":                              {"::1", 0, "udp"},
		"sip:my_server-1.local:1;Transport=tcp":  {"my_server-1.local", 1, "tcp"},
	} {
		if got, err := ParseTarget(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "sip:", "127.0.0.1", "sips:a", "http://a", "sip:a@b", "sip:a:0", "sip:a:65536", "sip:a:-1", "sip:a:",
		"sip:a:b", "sip:a;transport=tls", "sip:a;transport", "sip:a;", "sip:a;lr", "sip:a;trasport=tcp", "sip:a;transport=udp;lr",
		"sip:a?x=y", "sip://a", "sip:::1", "sip:[::1", "sip:[a]", "sip:[127.0.0.1]", "sip:[fe80::1%25eth0]", "sip:[fe80::1%eth0]", "sip:a b", "sip:*"} {
		if got, err := ParseTarget(s); err == nil {
			t.Errorf("%s: %+v", s, got)
		}
	}
	if _, err := New(Config{Name: "p1"}); err == nil {
		t.Error("New takes no server")
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"sip:127.0.0.1:5090;transport=udp", "sip:[::1]:1;transport=tcp", "sip:a", "sip:[fe80::1%25x]", "sip:a:99999;transport="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := ParseTarget(s)
		if err != nil {
			return
		}
		again, err := ParseTarget(target.String())
		target.Port = target.port()
		if err != nil || again != target {
			t.Errorf("%q: %+v is written as %s, read as %+v, %v", s, target, target, again, err)
		}
	})
}

func mustResolve(t *testing.T, p *Publisher) netip.AddrPort {
	t.Helper()
	addr, err := p.name.resolve(t.Context(), p.life, &p.busy)
	if err != nil {
		t.Fatal(err)
	}
	return addr
}
