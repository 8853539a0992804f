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

// path is the way to one address: a UDP socket, if that is the transport, a connection
// over TCP or TLS when there is need of one, and the requests that wait for answers.
//
// sipgo writes and reads the messages; the transactions are our own. Its transaction layer
// (v1.7.2) dereferences nil, in a goroutine of its own, when a connection ends while a
// request is about to be written to it, and without being told of such ends it waits 32 s.
type path struct {
	addr    netip.AddrPort
	tempo   tempo
	udp     *net.UDPConn   // nil: over connections only
	broken  atomic.Bool    // udp is not for further requests
	tls     *identity      // nil: over TCP in the clear
	in      *inbound       // answers what the server asks
	edition atomic.Uint64  // of the identity that the connection was made with
	users   int            // requests under way; the client's mutex guards it
	workers sync.WaitGroup // goroutines that read, write and connect

	life   context.Context // ends with close
	end    context.CancelFunc
	doomed context.Context // ends when those who wait are to go elsewhere; its cause says why
	doom   context.CancelCauseFunc

	mu      sync.Mutex
	waiting map[string]*waiter // by Via branch
	dial    *dial              // the last attempt to connect, and what came of it
	noTCP   time.Time          // until then, large requests do not try TCP first
	watch   watch
}

// waiter is a request that waits. What answers it is of its transaction (RFC 3261 section
// 17.1.3: branch and method) and of its number, for a branch is not always unique.
type waiter struct {
	branch  string
	method  sip.RequestMethod
	number  uint32
	answers chan *sip.Response
	trace   traceFunc
	watched bool      // the server's silence counts; the path's mutex guards it, and the next two
	sent    time.Time // for the last time, or for the first over a connection
	heard   bool      // something came, if but a provisional answer
	crossed bool      // the server closed the connection, which had served others, without a word
}

// fault is an error that is the server's, or the way's to it: another one may do better.
type fault struct{ error }

func (f fault) Unwrap() error { return f.error }

// errNoAnswer is the end of a request that was sent in vain.
var errNoAnswer = errors.New("no answer")

// newPath returns a path that ends with life at the latest. Over anything but UDP it
// connects when first used. quiet is called, in its own goroutine, when nothing has been
// heard for most of what counts as silence, and for all of it.
func newPath(life context.Context, addr netip.AddrPort, transport string, id *identity, in *inbound, tempo tempo, quiet func(p *path, silent bool)) (*path, error) {
	p := &path{addr: addr, tempo: tempo, tls: id, in: in, waiting: map[string]*waiter{}}
	p.life, p.end = context.WithCancel(life)
	p.doomed, p.doom = context.WithCancelCause(context.Background())
	p.watch.init(tempo.silence, func() { p.overdue(quiet) })
	if id != nil {
		p.edition.Store(id.edition.Load())
	}
	if transport != "udp" {
		return p, nil
	}
	return p, p.openUDP()
}

// usable says whether further requests may go this way.
func (p *path) usable() bool {
	return !p.broken.Load() && p.doomed.Err() == nil && (p.tls == nil || p.edition.Load() == p.tls.edition.Load())
}

// close ends a path without requests under way.
func (p *path) close() {
	p.end()
	if p.udp != nil {
		p.udp.Close()
	}
	p.mu.Lock()
	p.watch.stop()
	p.mu.Unlock()
	p.workers.Wait()
}

// exchange sends a request and returns its final answer. Servers close connections that
// were idle for long: when one ends before a request on it was heard of, that says nothing
// of the server, and the request goes once more, by a new one.
func (p *path) exchange(ctx context.Context, req *sip.Request) (res *sip.Response, err error) {
	for range 2 {
		w := p.enlist(ctx, req)
		res, err = p.transact(ctx, req, w)
		if p.dismiss(w); !w.crossed || w.heard { // nobody else has it now
			break
		}
	}
	return res, err
}

// transact is one transaction.
func (p *path) transact(ctx context.Context, req *sip.Request, w *waiter) (*sip.Response, error) {
	if ctx.Err() != nil {
		return nil, p.unanswered(ctx)
	}
	if p.udp == nil {
		p.expect(w) // connecting counts: who does not accept us is silent, too
		return p.overStream(ctx, req, w)
	}
	data := stamp(req, "UDP", p.udp.LocalAddr().(*net.UDPAddr).AddrPort(), w.branch)
	if len(data) <= maxDatagram || p.isWithoutTCP() {
		return p.overUDP(ctx, data, w)
	}
	res, err := p.overStream(ctx, req, w)
	if errors.Is(err, errConnect) && ctx.Err() == nil && p.doomed.Err() == nil {
		p.rememberNoTCP()
		return p.overUDP(ctx, data, w) // RFC 3261 section 18.1.1: where TCP is refused, by UDP
	}
	return res, err
}

func (p *path) enlist(ctx context.Context, req *sip.Request) *waiter {
	w := &waiter{branch: sip.GenerateBranchN(24), method: req.Method, answers: make(chan *sip.Response, 2), trace: tracing(ctx)}
	if h := req.CSeq(); h != nil {
		w.number = h.SeqNo
	}
	p.mu.Lock()
	p.waiting[w.branch] = w
	p.mu.Unlock()
	return w
}

func (p *path) dismiss(w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, w.branch)
	if w.watched {
		p.watch.leave(time.Now())
	}
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
	req.Laddr = sip.Addr{IP: local.Addr().Unmap().WithZone("").AsSlice(), Port: via.Port}
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
// anybody else's wait for nobody. Anything from the server's own address says that it lives.
func (p *path) deliver(msg sip.Message, l link, own bool) {
	res, ok := msg.(*sip.Response)
	var branch string
	if ok = ok && res.Via() != nil && res.CSeq() != nil; ok {
		branch, _ = res.Via().Params.Get("branch")
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.waiting[branch]
	if !ok || w == nil || res.CSeq().MethodName != w.method || res.CSeq().SeqNo != w.number {
		if own {
			p.watch.hear(now, 0)
		}
		return
	}
	p.watch.hear(now, now.Sub(w.sent))
	w.heard = true
	w.trace.received(l, res)
	switch {
	case !res.IsProvisional():
		delete(p.waiting, branch)
		w.answers <- res // there is room: one provisional at most came before
	case len(w.answers) == 0:
		w.answers <- res
	}
}

// unanswered is why a request that ended without an answer did.
func (p *path) unanswered(ctx context.Context) error {
	switch err := ctx.Err(); {
	case err == nil:
		return fault{context.Cause(p.doomed)}
	case errors.Is(err, context.DeadlineExceeded):
		return errNoAnswer
	default:
		return err
	}
}

// cause strips the operation and the addresses, which our own error says.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// to is for errors: what went wrong on the way to the server.
func (p *path) to(format string, args ...any) error {
	return fault{fmt.Errorf(format, args...)}
}
