package sipnet

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestOutlet: what is sent past Go's scheduler arrives, over both families, and what cannot be
// sent says why.
func TestOutlet(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
		to := netip.MustParseAddr(addr)
		in, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(to.Unmap(), 0)))
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(to.Unmap(), 0)))
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		out, err := newOutlet(socket, netip.AddrPortFrom(to, uint16(in.LocalAddr().(*net.UDPAddr).Port)))
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 2000)
		for _, text := range []string{"a", strings.Repeat("b", 1300)} {
			if err := out.send([]byte(text)); err != nil {
				t.Fatalf("%s: %v", addr, err)
			}
			in.SetReadDeadline(time.Now().Add(20 * time.Second))
			n, from, err := in.ReadFromUDPAddrPort(b)
			if err != nil || string(b[:n]) != text || unmapped(from) != unmapped(socket.LocalAddr().(*net.UDPAddr).AddrPort()) {
				t.Errorf("%s: %q of %v, %v", addr, b[:n], from, err)
			}
		}
		if err := out.send(make([]byte, 70_000)); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("%s: too large a datagram: %v", addr, err)
		}
		socket.Close()
		if err := out.send([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: a closed socket: %v", addr, err)
		}
	}
}

// TestNoOutlet: what goes over a network goes as usual.
func TestNoOutlet(t *testing.T) {
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for _, to := range []string{"192.0.2.1:5060", "[2001:db8::1]:5060", "[fe80::1%eth0]:5060"} {
		if out, err := newOutlet(socket, netip.MustParseAddrPort(to)); err != nil || out.conn != nil {
			t.Errorf("%s: %v, %v", to, out, err)
		}
	}
}
