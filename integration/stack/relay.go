package stack

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Relay passes TCP connections on, until it is cut.
type Relay struct {
	Addr string

	target   string
	listener net.Listener
	mu       sync.Mutex
	open     map[net.Conn]struct{}
	cut      bool
	workers  sync.WaitGroup
}

// Relay starts a relay to an address.
func (s *Stack) Relay(target string) (*Relay, error) {
	port := 0
	if err := ports(&port); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp4", Addr(port))
	if err != nil {
		return nil, fmt.Errorf("relay: port %d is taken: %w", port, err)
	}
	r := &Relay{Addr: l.Addr().String(), target: target, listener: l, open: make(map[net.Conn]struct{})}
	r.workers.Go(r.accept)
	s.onClose(r.close)
	return r, nil
}

func (r *Relay) accept() {
	for {
		in, err := r.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.DialTimeout("tcp4", r.target, 3*time.Second)
		if err != nil {
			in.Close()
			continue
		}
		if !r.add(in, out) {
			in.Close()
			out.Close()
			continue
		}
		r.workers.Go(func() { r.pass(in, out) })
		r.workers.Go(func() { r.pass(out, in) })
	}
}

// add notes a connection, unless the relay is cut.
func (r *Relay) add(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		if !r.cut {
			r.open[c] = struct{}{}
		}
	}
	return !r.cut
}

func (r *Relay) pass(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	to.Close()
	from.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, to)
	delete(r.open, from)
}

// Cut ends all connections and refuses new ones, until Heal.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = true
	for c := range r.open {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, as from a firewall
		}
		c.Close()
	}
}

// Heal lets connections through again.
func (r *Relay) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = false
}

func (r *Relay) close() error {
	err := r.listener.Close()
	r.Cut()
	r.workers.Wait()
	return err
}
