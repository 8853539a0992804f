package sipnet

import (
	"net"
	"strconv"
	"syscall"
)

// listener is a bare listening socket with the shortest queue there is, which net does not
// let us ask for.
type listener struct {
	fd   int
	addr string
}

func syscallListen() (*listener, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	l := &listener{fd: fd}
	if err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err == nil {
		err = syscall.Listen(fd, 0)
	}
	var name syscall.Sockaddr
	if err == nil {
		name, err = syscall.Getsockname(fd)
	}
	if err != nil {
		l.close()
		return nil, err
	}
	l.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
	return l, nil
}

func (l *listener) close() { syscall.Close(l.fd) }
