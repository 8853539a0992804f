package stack

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports are taken from below the range from which the kernel serves outgoing
// connections, so that none of those can take one between our look and its use.
const (
	firstPort = 20000
	lastPort  = 32000
)

// given are the ports that were handed out. None is handed out twice: a part that is down for
// a moment finds its own again, though others start meanwhile.
var given sync.Map

// FreePort returns a port of 127.0.0.1 that is free for UDP and TCP alike.
func FreePort() (int, error) {
	var err error
	for range 100 {
		port := firstPort + rand.N(lastPort-firstPort)
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		if err = CheckPort(port); err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port of 127.0.0.1 from %d to %d is free: %w", firstPort, lastPort, err)
}

// CheckPort returns an error that names the port if it is taken.
func CheckPort(port int) error {
	addr := Addr(port)
	tcp, err := net.Listen("tcp4", addr)
	if err != nil {
		return fmt.Errorf("port %d is taken (TCP): %w", port, err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp4", addr)
	if err != nil {
		return fmt.Errorf("port %d is taken (UDP): %w", port, err)
	}
	return udp.Close()
}

// Addr returns the address of a port on loopback.
func Addr(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// ports gives every zero among the pointers a free port, and checks the others.
func ports(wanted ...*int) error {
	seen := make(map[int]bool)
	for _, p := range wanted {
		if *p != 0 {
			if err := CheckPort(*p); err != nil {
				return err
			}
			continue
		}
		for *p == 0 || seen[*p] {
			var err error
			if *p, err = FreePort(); err != nil {
				return err
			}
		}
		seen[*p] = true
	}
	return nil
}
