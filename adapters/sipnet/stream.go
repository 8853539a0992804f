package sipnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/emiago/sipgo/sip"
)

// goodbye is how long the end of a TLS connection may take to be told to the server.
const goodbye = 200 * time.Millisecond

var (
	// errConnect marks that there is no connection.
	errConnect = errors.New("no connection")
	errSilent  = errors.New("nothing heard for too long")
)

// dial is one attempt to connect, for which any number of requests wait.
type dial struct {
	done   chan struct{} // closed when the rest is known
	stream *stream
	err    error
}

// over says whether a further request needs an attempt of its own.
func (d *dial) over() bool {
	if d == nil {
		return true
	}
	select {
	case <-d.done:
	default:
		return false
	}
	if d.err != nil {
		return true
	}
	select {
	case <-d.stream.ended:
		return true
	default:
		return false
	}
}

// stream is a connection to the server, over TCP or TLS.
type stream struct {
	net.Conn
	raw   net.Conn // Conn, or what is below its TLS
	from  origin
	out   chan []byte // to the goroutine that writes
	heard atomic.Uint64

	once  sync.Once
	ended chan struct{} // closed when it has ended
	why   error         // it has
}

// end closes the connection. TLS says goodbye first, which a peer that does not read must
// not hold up.
func (s *stream) end(why error) {
	s.once.Do(func() {
		s.why = why
		late := time.AfterFunc(goodbye, func() { s.raw.Close() })
		s.Close()
		late.Stop()
		close(s.ended)
	})
}

// connect returns the connection, a new one if there is none. All requests that need one
// share one attempt, which goes on when one of them ends, or when its time is over.
func (p *path) connect(ctx context.Context, over <-chan time.Time) (*stream, error) {
	p.mu.Lock()
	d := p.dial
	if d.over() {
		d = &dial{done: make(chan struct{})}
		p.dial = d
		p.workers.Go(func() {
			defer close(d.done)
			d.stream, d.err = p.open()
		})
	}
	p.mu.Unlock()
	select {
	case <-d.done:
		return d.stream, d.err
	case <-p.doomed.Done():
		return nil, p.unanswered(ctx)
	case <-p.life.Done():
		return nil, p.unanswered(ctx)
	case <-over:
		return nil, fmt.Errorf("%w to %s so far: %w", errConnect, p.addr, context.DeadlineExceeded)
	case <-ctx.Done():
		return nil, fmt.Errorf("%w to %s so far: %w", errConnect, p.addr, ctx.Err())
	}
}

// open connects, and starts to read and write.
func (p *path) open() (*stream, error) {
	ctx, cancel := context.WithTimeout(p.life, p.tempo.connTimeout)
	defer cancel()
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", p.addr.String())
	if err != nil {
		return nil, p.to("%w to %s by TCP: %w", errConnect, p.addr, cause(err))
	}
	s := &stream{Conn: raw, raw: raw, out: make(chan []byte), ended: make(chan struct{})}
	if p.tls != nil {
		edition := p.tls.refresh()
		if s.Conn, err = p.tls.handshake(ctx, raw); err != nil {
			raw.Close()
			return nil, p.to("%w to %s by TLS: %w", errConnect, p.addr, err)
		}
		p.edition.Store(edition)
	}
	stop := context.AfterFunc(p.life, func() { s.end(net.ErrClosed) })
	s.from = newOrigin(p.transport(), s.LocalAddr().(*net.TCPAddr).AddrPort())
	p.workers.Go(func() { s.write(p.tempo.connTimeout) })
	l := s.link(p.transport())
	p.workers.Go(func() {
		defer p.in.lost(unmapped(l.local))
		defer stop()
		run, end := p.in.turns(&p.workers)
		defer end()
		why := s.read(p.in.most, p.deliverGlimpse, func(msg sip.Message) { p.fromStream(msg, s, l, run) })
		if errors.Is(why, sip.ErrMessageTooLarge) || errors.Is(why, errHead) {
			p.in.log.Warn("the server sends too large a message: the connection is ended",
				"server", l.remote, "most", p.in.most, "headers", maxHead, "why", why)
		}
		s.end(why)
	})
	return s, nil
}

// read ends with the connection. What is no SIP ends it, since nobody could tell where the
// next message begins; so does a message over so many bytes.
func (s *stream) read(most int, glimpsed func(*glimpse) bool, deliver func(sip.Message)) error {
	parser := sip.NewParser()
	parser.MaxMessageLength = most
	f := framer{parser: parser.NewSIPStream()}
	defer f.parser.Close()
	b := make([]byte, 1<<16)
	for {
		n, err := s.Read(b)
		if err != nil {
			return err
		}
		s.heard.Add(1)
		if err := f.feed(b[:n], glimpsed, deliver, func() { s.reply(pong) }); err != nil {
			return err
		}
	}
}

// write is the one goroutine that writes. Were it the requests themselves, the end of one
// during its write would leave the others half a message, and every further write would
// put off the deadline of one that is stuck.
func (s *stream) write(timeout time.Duration) {
	for {
		select {
		case data := <-s.out:
			s.SetWriteDeadline(time.Now().Add(timeout))
			if _, err := s.Write(data); err != nil {
				s.end(err)
			}
		case <-s.ended:
			return
		}
	}
}

// overStream is a non-INVITE client transaction over TCP or TLS (RFC 3261 section 17.1.2).
func (p *path) overStream(ctx context.Context, req *Draft, w *waiter) (*sip.Response, error) {
	var over <-chan time.Time
	if !w.until.IsZero() {
		w.timer.Reset(time.Until(w.until))
		over = w.timer.C
	}
	s, err := p.connect(ctx, over)
	if err != nil {
		return nil, err
	}
	p.expect(w)
	req.local = s.from.addr
	out, data := s.out, req.write(make([]byte, 0, maxDatagram), &s.from, w.branch)
	if w.trace != nil {
		w.trace.sent(s.link(p.transport()), data) // before the answer, which can be quick
	}
	heard := s.heard.Load()
	began := heard
	w.wait(p.tempo.streamSilence)
	for {
		select {
		case out <- data:
			out = nil // written once
		case <-w.timer.C:
			now := s.heard.Load()
			switch {
			case w.over(time.Now()):
				return p.last(w, p.lapse(s, now == heard))
			case now == heard:
				s.end(errSilent)
			default:
				heard = now
				w.wait(p.tempo.streamSilence)
			}
		case res := <-w.answers:
			if !res.IsProvisional() {
				return res, nil
			}
		case <-s.ended:
			w.crossed = began > 0 && s.closedByPeer() // nor was it opened for this request
			return p.last(w, p.lost(s, began))
		case <-p.doomed.Done():
			return p.last(w, p.unanswered(ctx))
		case <-p.life.Done():
			return p.last(w, p.unanswered(ctx))
		case <-ctx.Done():
			if err = p.unanswered(ctx); errors.Is(err, errNoAnswer) {
				err = p.lapse(s, s.heard.Load() == heard)
			}
			return p.last(w, err)
		}
	}
}

// lapse ends a request whose time is over, and its connection if that was silent.
func (p *path) lapse(s *stream, silent bool) error {
	if silent {
		s.end(errNoAnswer)
	}
	return errNoAnswer
}

// closedByPeer returns whether a connection that has ended was closed by the server, for
// whatever reason it did not tell.
func (s *stream) closedByPeer() bool {
	return slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE},
		func(e error) bool { return errors.Is(s.why, e) })
}

// lost is how a connection ended that had been read from so many times when the request
// began. If the server has said something since, or speaks UDP too, it need not be down.
func (p *path) lost(s *stream, began uint64) error {
	why := cause(s.why)
	if p.tls != nil {
		why = p.tls.explain(s.why, s.heard.Load() == 0)
	}
	err := fmt.Errorf("connection to %s lost: %w", p.addr, why)
	if p.udp != nil || s.heard.Load() != began {
		return err
	}
	return fault{err}
}
