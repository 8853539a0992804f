package sipnet

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// outlet sends datagrams from a socket to one address. It does not tell Go's scheduler of the
// system call: that cannot block, for the socket does not, but on loopback it lasts for as
// long as the receiver's part of the work, some 30 us. With one processor the scheduler takes
// that for a call that blocks, gives the processor away for nothing, and looks 10,000 times a
// second whether there is another: a third of what a call cost (integration/bench/floors.md).
type outlet struct {
	conn syscall.RawConn
	to   []byte // a struct sockaddr
}

func newOutlet(socket *net.UDPConn, to netip.AddrPort) (outlet, error) {
	conn, err := socket.SyscallConn()
	if err != nil {
		return outlet{}, err
	}
	addr := to.Addr().Unmap()
	var b []byte
	if addr.Is4() {
		b = binary.NativeEndian.AppendUint16(b, unix.AF_INET)
		b = binary.BigEndian.AppendUint16(b, to.Port())
		b = append(append(b, addr.AsSlice()...), make([]byte, 8)...)
		return outlet{conn, b}, nil
	}
	scope := uint32(0)
	if zone := addr.Zone(); zone != "" {
		on, err := net.InterfaceByName(zone)
		if err != nil {
			return outlet{}, err
		}
		scope = uint32(on.Index)
	}
	b = binary.NativeEndian.AppendUint16(b, unix.AF_INET6)
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = append(append(b, make([]byte, 4)...), addr.AsSlice()...)
	return outlet{conn, binary.NativeEndian.AppendUint32(b, scope)}, nil
}

// send writes one datagram; where the socket's buffer is full it waits for room.
func (o outlet) send(data []byte) error {
	e := emissions.Get().(*emission)
	defer emissions.Put(e)
	e.data, e.to = data, o.to
	if err := o.conn.Write(e.once); err != nil {
		return err
	}
	e.data = nil
	if e.errno != 0 {
		return e.errno
	}
	return nil
}

// emission is a datagram that goes out. They are used again, for each has a closure.
type emission struct {
	data, to []byte
	errno    syscall.Errno
	once     func(fd uintptr) bool
}

var emissions = sync.Pool{New: func() any {
	e := new(emission)
	e.once = e.write
	return e
}}

// write tries, and tells whether that was all: it is not while there is no room.
func (e *emission) write(fd uintptr) bool {
	for {
		_, _, e.errno = syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(e.data))), uintptr(len(e.data)),
			unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(unsafe.SliceData(e.to))), uintptr(len(e.to)))
		runtime.KeepAlive(e)
		if e.errno != syscall.EINTR {
			return e.errno != syscall.EAGAIN
		}
	}
}
