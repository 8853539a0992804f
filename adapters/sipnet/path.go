package sipnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"
)

// path is the way to one address: a UDP socket, if that is the transport, a TCP connection
// when there is need of one, and the requests that wait for answers from them.
//
// sipgo writes and reads the messages; the transactions are our own. Its transaction layer
// (v1.7.2) dereferences nil, in a goroutine of its own, when a connection ends while a
// request is about to be written to it, and without being told of such ends it waits 32 s.
type path struct {
	addr    netip.AddrPort
	udp     *net.UDPConn   // nil: over TCP only
	broken  atomic.Bool    // udp is not for further requests
	users   int            // requests under way; the client's mutex guards it
	workers sync.WaitGroup // goroutines that read and write

	turn chan struct{} // holds one while tcp is looked at or made
	tcp  *stream

	mu      sync.Mutex
	waiting map[string]waiter // by Via branch
}

// waiter is a request that waits: an answer must be to its method, too (RFC 3261 section
// 17.1.3).
type waiter struct {
	method  sip.RequestMethod
	answers chan *sip.Response
}

// Timers of RFC 3261 section 17.1.2 and its table 4.
const (
	t1 = 500 * time.Millisecond
	t2 = 4 * time.Second
)

// maxDatagram is the largest request to go by UDP (RFC 3261 section 18.1.1).
const maxDatagram = 1300

// socketBuffer is asked of the kernel for a UDP socket. With the default one, answers to a
// burst of a few hundred requests are lost.
const socketBuffer = 4 << 20

// errNoAnswer is the end of a request that was sent in vain.
var errNoAnswer = errors.New("no answer")

func newPath(addr netip.AddrPort, transport string) (*path, error) {
	p := &path{addr: addr, turn: make(chan struct{}, 1), waiting: map[string]waiter{}}
	if transport == "udp" {
		return p, p.openUDP()
	}
	return p, nil
}

// openUDP binds the socket to the address that the kernel would send from, since that goes
// into the Via header.
func (p *path) openUDP() error {
	probe, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.addr))
	if err != nil {
		return fmt.Errorf("server %s: %w", p.addr, err)
	}
	local := probe.LocalAddr().(*net.UDPAddr)
	probe.Close()
	if p.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: local.IP, Zone: local.Zone}); err != nil {
		return fmt.Errorf("socket to %s: %w", p.addr, err)
	}
	p.udp.SetReadBuffer(socketBuffer)
	p.udp.SetWriteBuffer(socketBuffer)
	p.workers.Go(p.readUDP)
	return nil
}

// readUDP ends when the socket is closed. An answer is known by its transaction, not by
// where it comes from (RFC 3261 section 17.1.3).
func (p *path) readUDP() {
	defer p.broken.Store(true)
	parser := sip.NewParser()
	b := make([]byte, 1<<16)
	for {
		n, _, err := p.udp.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if bytes.HasPrefix(b[:n], []byte("SIP/2.0 ")) {
			if msg, err := parser.ParseSIP(b[:n]); err == nil {
				p.deliver(msg)
			}
		}
	}
}

// close ends a path without requests under way.
func (p *path) close() {
	if p.udp != nil {
		p.udp.Close()
	}
	if p.tcp != nil {
		p.tcp.end(net.ErrClosed)
	}
	p.workers.Wait()
}

// exchange sends a request and returns its final answer.
func (p *path) exchange(ctx context.Context, req *sip.Request) (*sip.Response, error) {
	branch := sip.GenerateBranchN(24)
	answers := make(chan *sip.Response, 2)
	p.mu.Lock()
	p.waiting[branch] = waiter{req.Method, answers}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.waiting, branch)
		p.mu.Unlock()
	}()
	if p.udp == nil {
		return p.overTCP(ctx, req, branch, answers)
	}
	data := stamp(req, "UDP", p.udp.LocalAddr().(*net.UDPAddr).AddrPort(), branch)
	if len(data) <= maxDatagram {
		return p.overUDP(ctx, data, answers)
	}
	res, err := p.overTCP(ctx, req, branch, answers)
	if errors.Is(err, errConnect) && ctx.Err() == nil {
		return p.overUDP(ctx, data, answers) // the same section: where TCP is refused, by UDP
	}
	return res, err
}

// stamp puts on a request what depends on the way that it goes, and writes it out.
func stamp(req *sip.Request, transport string, local netip.AddrPort, branch string) []byte {
	via := &sip.ViaHeader{ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: transport,
		Host: local.Addr().Unmap().WithZone("").String(), Port: int(local.Port())}
	via.Params.Add("branch", branch)
	via.Params.Add("rport", "") // RFC 3581: the answer finds the way back through a NAT
	if transport != "UDP" {
		via.Params.Add("alias", "") // RFC 5923: requests to us may come over this connection
	}
	req.RemoveHeader("Via")
	req.PrependHeader(via)
	if contact := req.Contact(); contact != nil && contact.Address.Host == "" {
		uri := &contact.Address
		uri.Host, uri.Port = via.Host, via.Port
		uri.UriParams.Add("transport", strings.ToLower(transport))
		defer func() { uri.Host, uri.Port, uri.UriParams = "", 0, nil }() // another way has another
	}
	var b bytes.Buffer
	b.Grow(maxDatagram)
	req.StringWrite(&b)
	return b.Bytes()
}

// deliver hands a response to the request that waits for it. A second one, a late one and
// anybody else's wait for nobody.
func (p *path) deliver(msg sip.Message) {
	res, ok := msg.(*sip.Response)
	if !ok || res.Via() == nil || res.CSeq() == nil {
		return
	}
	branch, _ := res.Via().Params.Get("branch")
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.waiting[branch]
	answers := w.answers
	switch {
	case answers == nil || res.CSeq().MethodName != w.method:
	case !res.IsProvisional():
		delete(p.waiting, branch)
		answers <- res // there is room: one provisional at most came before
	case len(answers) == 0:
		answers <- res
	}
}

// overUDP is a non-INVITE client transaction over UDP (RFC 3261 section 17.1.2).
func (p *path) overUDP(ctx context.Context, data []byte, answers <-chan *sip.Response) (*sip.Response, error) {
	if err := p.send(data); err != nil {
		return nil, err
	}
	interval := t1
	again := time.NewTimer(interval)
	defer again.Stop()
	for {
		select {
		case res := <-answers:
			if !res.IsProvisional() {
				return res, nil
			}
			interval = t2
		case <-again.C:
			if err := p.send(data); err != nil {
				return nil, err
			}
			interval = min(2*interval, t2)
			again.Reset(interval)
		case <-ctx.Done():
			return nil, unanswered(ctx)
		}
	}
}

// send writes one datagram. If that fails, the next request has a new socket; those under
// way over this one go on, for what befell this packet need not befall theirs.
func (p *path) send(data []byte) error {
	if _, err := p.udp.WriteToUDPAddrPort(data, p.addr); err != nil {
		p.broken.Store(true)
		return fmt.Errorf("send to %s by UDP: %w", p.addr, cause(err))
	}
	return nil
}

func unanswered(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errNoAnswer
	}
	return ctx.Err()
}

// cause strips the operation and the addresses, which our own error says.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
