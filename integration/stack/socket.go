package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"
)

// socketBuffer is asked of the kernel for a UDP socket, so that a burst is not lost.
const socketBuffer = 8 << 20

// socket is a UDP socket that knows when a packet arrived.
type socket struct {
	conn *net.UDPConn
	addr netip.AddrPort
	done chan struct{} // closes when the reader has ended
}

// openSocket binds a UDP socket to a port of loopback, 0 for any free one. Its owner keeps
// it and then calls serve, once.
func openSocket(port int) (*socket, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_TIMESTAMPNS, 1)
			// Above the system's limit for those who may, up to it for others.
			if syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, socketBuffer) != nil {
				_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, socketBuffer)
			}
		})
		return errors.Join(err, failed)
	}}
	conn, err := config.ListenPacket(context.Background(), "udp4", Addr(port))
	if err != nil {
		return nil, fmt.Errorf("port %d (UDP): %w", port, err)
	}
	s := &socket{conn: conn.(*net.UDPConn), done: make(chan struct{})}
	s.addr = s.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return s, nil
}

// serve hands what arrives to handle, one packet at a time, until the socket is closed.
func (s *socket) serve(handle func(m *message, from netip.AddrPort)) {
	defer close(s.done)
	buf, control := make([]byte, 64<<10), make([]byte, 128)
	for {
		n, cn, _, from, err := s.conn.ReadMsgUDPAddrPort(buf, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of a packet that was sent
		}
		if m, ok := parseMessage(string(buf[:n])); ok {
			m.at = arrival(control[:cn])
			handle(m, from)
		}
	}
}

// arrival returns the kernel's time of a packet.
func arrival(control []byte) time.Time {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err == nil {
		for _, m := range messages {
			if m.Header.Type == syscall.SO_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(syscall.Timespec{})) {
				ts := *(*syscall.Timespec)(unsafe.Pointer(&m.Data[0]))
				return time.Unix(ts.Sec, ts.Nsec)
			}
		}
	}
	return time.Now()
}

// send sends a packet. What the network loses the sender repeats, so an error is no news.
func (s *socket) send(to netip.AddrPort, text string) {
	_, _ = s.conn.WriteToUDPAddrPort([]byte(text), to)
}

func (s *socket) close() error {
	err := s.conn.Close()
	<-s.done
	return err
}
