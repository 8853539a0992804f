package stack

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// Relay passes TCP connections on, and can do to them what networks and broken programs
// do: reset them, hold them in silence, or change what comes from the target.
type Relay struct {
	Addr string

	target   string
	frames   bool
	listener net.Listener
	workers  sync.WaitGroup

	mu     sync.Mutex
	links  map[*link]struct{}
	cut    bool
	silent chan struct{} // new connections wait for its close; nil: they do not
	mangle Mangler
}

// link is a connection through the relay.
type link struct {
	in, out net.Conn
	silent  chan struct{} // nothing passes before its close; nil: it does
}

// Mangler says what becomes of a frame's payload: the bytes that are sent instead, and
// whether the connection then ends. Frames that it holds back it can return with a later one.
type Mangler func(payload []byte) (bytes []byte, end bool)

// Netstring is how evapi frames a payload.
func Netstring(payload []byte) []byte { return fmt.Appendf(nil, "%d:%s,", len(payload), payload) }

// Relay starts a relay to an address.
func (s *Stack) Relay(target string) (*Relay, error) { return s.relay(target, false) }

// EvapiRelay starts a relay to a proxy's evapi, which knows the proxy's frames: see
// [Relay.Mangle].
func (s *Stack) EvapiRelay(target string) (*Relay, error) { return s.relay(target, true) }

func (s *Stack) relay(target string, frames bool) (*Relay, error) {
	port := 0
	if err := ports(&port); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp4", Addr(port))
	if err != nil {
		return nil, fmt.Errorf("relay: port %d is taken: %w", port, err)
	}
	r := &Relay{Addr: l.Addr().String(), target: target, frames: frames, listener: l, links: make(map[*link]struct{})}
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
		l := &link{in: in}
		if r.add(l) {
			r.workers.Go(func() { r.connect(l) })
		}
	}
}

// add notes a link, unless the relay is cut.
func (r *Relay) add(l *link) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		l.end(true)
		return false
	}
	l.silent = r.silent
	r.links[l] = struct{}{}
	return true
}

// connect connects a link to the target, when it may speak, and passes both directions on.
func (r *Relay) connect(l *link) {
	defer r.drop(l)
	r.listen(l)
	out, err := net.DialTimeout("tcp4", r.target, 3*time.Second)
	if err != nil {
		return
	}
	r.mu.Lock()
	_, alive := r.links[l]
	if alive {
		l.out = out
	}
	r.mu.Unlock()
	if !alive {
		out.Close()
		return
	}
	var there sync.WaitGroup
	there.Go(func() { r.pass(l, out, chunks(l.in)) })
	if r.frames {
		r.pass(l, l.in, r.mangled(out))
	} else {
		r.pass(l, l.in, chunks(out))
	}
	there.Wait()
}

// listen waits until a link is not silent.
func (r *Relay) listen(l *link) {
	for {
		r.mu.Lock()
		silent := l.silent
		r.mu.Unlock()
		if silent == nil {
			return
		}
		<-silent
	}
}

// pass hands on what next returns, until it returns an error. What arrives in silence,
// the end too, waits.
func (r *Relay) pass(l *link, to net.Conn, next func() ([]byte, error)) {
	defer r.drop(l)
	for {
		b, err := next()
		r.listen(l)
		if _, failed := to.Write(b); failed != nil || err != nil {
			return
		}
	}
}

// chunks returns a function that reads whatever there is.
func chunks(from net.Conn) func() ([]byte, error) {
	buf := make([]byte, 32<<10)
	return func() ([]byte, error) {
		n, err := from.Read(buf)
		return buf[:n], err
	}
}

var errMangled = errors.New("the mangler ends the connection")

// mangled returns a function that reads a frame and has the mangler change it.
func (r *Relay) mangled(from net.Conn) func() ([]byte, error) {
	in := bufio.NewReader(from)
	return func() ([]byte, error) {
		payload, err := readFrame(in)
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.mangle == nil {
			return Netstring(payload), nil
		}
		b, end := r.mangle(payload)
		if end {
			err = errMangled
		}
		return b, err
	}
}

// readFrame reads a frame of a real proxy, of which only its size is in doubt.
func readFrame(in *bufio.Reader) ([]byte, error) {
	const most = 1 << 20
	length, err := in.ReadString(':')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(length[:len(length)-1])
	if err != nil || n < 0 || n > most {
		return nil, fmt.Errorf("relay: a frame's length is %.40q", length)
	}
	b := make([]byte, n+1)
	_, err = io.ReadFull(in, b)
	return b[:n], err
}

// Mangle has f change the target's frames from now on; nil, and nothing does. One frame is
// given to it at a time.
func (r *Relay) Mangle(f Mangler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mangle = f
}

// Cut ends all connections by a reset and refuses new ones, until Heal.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = true
	for l := range r.links {
		l.end(true)
	}
}

// Silence lets nothing pass over the connections that there are, not even their end, as if
// every packet were lost; until Heal. With newToo, new connections are accepted, and hear
// nothing.
func (r *Relay) Silence(newToo bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	silent := make(chan struct{})
	if newToo && r.silent == nil {
		r.silent = silent
	}
	for l := range r.links {
		if l.silent == nil {
			l.silent = silent
		}
	}
}

// Heal lets everything through again.
func (r *Relay) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = false
	ended := make(map[chan struct{}]bool)
	end := func(silent *chan struct{}) {
		if *silent != nil && !ended[*silent] {
			close(*silent)
			ended[*silent] = true
		}
		*silent = nil
	}
	end(&r.silent)
	for l := range r.links {
		end(&l.silent)
	}
}

// drop ends a link.
func (r *Relay) drop(l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.end(false)
	delete(r.links, l)
}

// end closes a link, by a reset as from a firewall or by the usual way.
func (l *link) end(reset bool) {
	for _, c := range []net.Conn{l.in, l.out} {
		if c == nil {
			continue
		}
		if tcp, ok := c.(*net.TCPConn); ok && reset {
			_ = tcp.SetLinger(0)
		}
		c.Close()
	}
}

func (r *Relay) close() error {
	err := r.listener.Close()
	r.Heal()
	r.Cut()
	r.workers.Wait()
	return err
}
