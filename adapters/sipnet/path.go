package sipnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
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
	out     outlet         // udp's, to addr
	from    origin         // udp's
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
	waiting map[branch]*waiter
	dial    *dial     // the last attempt to connect, and what came of it
	noTCP   time.Time // until then, large requests do not try TCP first
	watch   watch
}

// waiter is a request that waits. What answers it is of its transaction (RFC 3261 section
// 17.1.3: branch and method) and of its number, for a branch is not always unique.
type waiter struct {
	branch  branch
	method  sip.RequestMethod
	number  uint32
	answers chan *sip.Response
	brief   *sip.Response // where an answer that needs no parser is written; nil: all go through it
	trace   traceFunc
	data    []byte      // what goes out by UDP
	timer   *time.Timer // of the transaction
	began   time.Time
	until   time.Time // its end; zero for none
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
	p := &path{addr: addr, tempo: tempo, tls: id, in: in, waiting: map[branch]*waiter{}}
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
func (p *path) exchange(ctx context.Context, req *Draft) (res *sip.Response, err error) {
	for range 2 {
		w := p.enlist(ctx, req)
		res, err = p.transact(ctx, req, w)
		again := p.dismiss(w)
		if !again {
			break
		}
	}
	return res, err
}

// transact is one transaction.
func (p *path) transact(ctx context.Context, req *Draft, w *waiter) (*sip.Response, error) {
	if ctx.Err() != nil || p.life.Err() != nil {
		return nil, p.unanswered(ctx)
	}
	if w.over(w.began) {
		return nil, errNoAnswer
	}
	if p.udp == nil {
		p.expect(w) // connecting counts: who does not accept us is silent, too
		return p.overStream(ctx, req, w)
	}
	w.data = req.write(w.data[:0], &p.from, w.branch)
	if len(w.data) <= maxDatagram || p.isWithoutTCP() {
		req.local = p.from.addr
		return p.overUDP(ctx, w)
	}
	res, err := p.overStream(ctx, req, w)
	if errors.Is(err, errConnect) && ctx.Err() == nil && p.life.Err() == nil && p.doomed.Err() == nil && !w.over(time.Now()) {
		p.rememberNoTCP()
		req.local = p.from.addr
		return p.overUDP(ctx, w) // RFC 3261 section 18.1.1: where TCP is refused, by UDP
	}
	return res, err
}

// waiters are those of earlier requests: what a transaction needs is made once for many.
var waiters = sync.Pool{New: func() any {
	w := &waiter{answers: make(chan *sip.Response, 2), timer: time.NewTimer(time.Hour)}
	w.timer.Stop()
	return w
}}

func (p *path) enlist(ctx context.Context, req *Draft) *waiter {
	w := waiters.Get().(*waiter)
	*w = waiter{answers: w.answers, timer: w.timer, data: w.data,
		branch: newBranch(), method: req.Method, number: req.Number, brief: req.room(), trace: tracing(ctx), began: time.Now(), until: req.until}
	p.mu.Lock()
	p.waiting[w.branch] = w
	p.mu.Unlock()
	return w
}

// dismiss ends a wait, and tells whether the request is to go once more.
func (p *path) dismiss(w *waiter) (again bool) {
	w.timer.Stop()
	p.mu.Lock()
	delete(p.waiting, w.branch) // nobody else has it now
	if w.watched {
		p.watch.leave(time.Now())
	}
	p.mu.Unlock()
	again = w.crossed && !w.heard
	for len(w.answers) > 0 {
		<-w.answers
	}
	waiters.Put(w)
	return again
}

// deliver hands a response to the request that waits for it. A second one, a late one and
// anybody else's wait for nobody. Anything from the server's own address says that it lives.
func (p *path) deliver(msg sip.Message, l link, own bool) {
	res, ok := msg.(*sip.Response)
	var br branch
	if ok = ok && res.Via() != nil && res.CSeq() != nil; ok {
		value, _ := res.Via().Params.Get("branch")
		ok = br.parse(value)
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.waiting[br]
	if !ok || w == nil || res.CSeq().MethodName != w.method || res.CSeq().SeqNo != w.number {
		if own {
			p.watch.hear(now, 0)
		}
		return
	}
	w.trace.received(l, res)
	p.answer(w, res, now)
}

// answer hands a response to who waits for it; p.mu is held.
func (p *path) answer(w *waiter, res *sip.Response, now time.Time) {
	p.watch.hear(now, now.Sub(w.sent))
	w.heard = true
	switch {
	case !res.IsProvisional():
		delete(p.waiting, w.branch)
		w.answers <- res // there is room: one provisional at most came before
	case len(w.answers) == 0:
		w.answers <- res
	}
}

// unanswered is why a request that ended without an answer did.
func (p *path) unanswered(ctx context.Context) error {
	switch err := ctx.Err(); {
	case err == nil && p.life.Err() != nil:
		return errClosed
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
