package main

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch is how many datagrams one system call reads or writes at most.
const batch = 64

// datagramRoom is what a datagram may have; longer ones are cut.
const datagramRoom = 4096

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// datagrams reads and writes many datagrams by one system call each, and allocates nothing: what
// stands beside the measured must cost little. Times are the kernel's (SO_TIMESTAMPNS).
type datagrams struct {
	fd      int
	in, out [batch]mmsghdr
	inv     [batch]unix.Iovec
	outv    [batch]unix.Iovec
	from    [batch]unix.RawSockaddrInet4
	control [batch][64]byte
	room    [batch][datagramRoom]byte
	answers [batch][1024]byte
	queued  int
}

// newDatagrams takes over a socket.
func newDatagrams(fd int) (*datagrams, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return nil, fmt.Errorf("SO_TIMESTAMPNS: %w", err)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	}
	return &datagrams{fd: fd}, nil
}

// read waits for datagrams and returns how many there are.
func (d *datagrams) read() (int, error) {
	for i := range d.in {
		d.inv[i] = unix.Iovec{Base: &d.room[i][0], Len: datagramRoom}
		d.in[i].hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&d.from[i])), Namelen: unix.SizeofSockaddrInet4,
			Iov: &d.inv[i], Iovlen: 1, Control: &d.control[i][0], Controllen: uint64(len(d.control[i]))}
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(d.fd), uintptr(unsafe.Pointer(&d.in)), batch,
		unix.MSG_WAITFORONE, 0, 0)
	if errno != 0 {
		return 0, os.NewSyscallError("recvmmsg", errno)
	}
	return int(n), nil
}

// datagram returns datagram i of the last read and when it arrived, in nanoseconds since 1970.
func (d *datagrams) datagram(i int) (data []byte, at int64) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&d.control[i][0]))
	if d.in[i].hdr.Controllen >= unix.SizeofCmsghdr && h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPNS {
		at = (*unix.Timespec)(unsafe.Pointer(&d.control[i][unix.SizeofCmsghdr])).Nano()
	}
	return d.room[i][:d.in[i].n], at
}

// answer queues a datagram to the sender of datagram i; write makes it with its room.
func (d *datagrams) answer(i int, write func(room []byte) []byte) {
	q := d.queued
	text := write(d.answers[q][:0])
	if len(text) == 0 {
		return
	}
	d.outv[q] = unix.Iovec{Base: &text[0], Len: uint64(len(text))}
	d.out[q].hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&d.from[i])), Namelen: unix.SizeofSockaddrInet4,
		Iov: &d.outv[q], Iovlen: 1}
	d.queued++
}

// flush sends what was queued. What the network loses the peer asks for again.
func (d *datagrams) flush() {
	for sent := 0; sent < d.queued; {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(d.fd), uintptr(unsafe.Pointer(&d.out[sent])),
			uintptr(d.queued-sent), 0, 0, 0)
		if errno != 0 || n == 0 {
			sent++ // an ICMP error of a datagram before
			continue
		}
		sent += int(n)
	}
	d.queued = 0
}
