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

// outlet sends datagrams from a socket to an address of this host, and does not tell Go's
// scheduler of the system call. It waits for nobody, but over loopback it does the receiver's
// part of the work as well, some 30 us. With one processor the scheduler takes that for a call
// that blocks, gives the processor away for nothing, and looks 10,000 times a second whether
// there is another: 8 to 19 % of what a call cost (integration/bench/floors.md). A network
// card takes a datagram in a few us: there, the scheduler is told as usual.
type outlet struct {
	conn syscall.RawConn // nil: not to this host
	to   []byte          // a struct sockaddr
}

func newOutlet(socket *net.UDPConn, to netip.AddrPort) (outlet, error) {
	addr := to.Addr().Unmap()
	if !addr.IsLoopback() {
		return outlet{}, nil
	}
	conn, err := socket.SyscallConn()
	if err != nil {
		return outlet{}, err
	}
	if addr.Is4() { // family, port, address, padding
		b := binary.BigEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, unix.AF_INET), to.Port())
		return outlet{conn, append(append(b, addr.AsSlice()...), make([]byte, 8)...)}, nil
	}
	// Family, port, flow, address, scope.
	b := binary.BigEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, unix.AF_INET6), to.Port())
	b = append(append(b, make([]byte, 4)...), addr.AsSlice()...)
	return outlet{conn, append(b, make([]byte, 4)...)}, nil
}

// send writes one datagram; where the socket's buffer is full it waits for room.
func (o outlet) send(data []byte) error {
	e := emissions.Get().(*emission)
	e.data, e.to = data, o.to
	defer func() {
		e.data = nil
		emissions.Put(e)
	}()
	if err := o.conn.Write(e.once); err != nil {
		return err
	}
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
