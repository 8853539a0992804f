package sipnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"
)

// connTimeout bounds connecting to a server, and its not reading what we write.
const connTimeout = 5 * time.Second

// errConnect marks that there is no connection.
var errConnect = errors.New("no TCP connection")

// stream is a TCP connection to the server.
type stream struct {
	net.Conn
	out   chan []byte // to the goroutine that writes
	heard atomic.Uint64

	once  sync.Once
	ended chan struct{} // closed when it has ended
	why   error         // it has
}

func (s *stream) end(why error) {
	s.once.Do(func() {
		s.why = cause(why)
		s.Close()
		close(s.ended)
	})
}

// connect returns the connection, a new one if there is none. One request connects and the
// others wait, each for as long as it wants to.
func (p *path) connect(ctx context.Context) (*stream, error) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w to %s so far: %w", errConnect, p.addr, ctx.Err())
	}
	defer func() { <-p.turn }()
	if p.tcp != nil {
		select {
		case <-p.tcp.ended:
		default:
			return p.tcp, nil
		}
	}
	dialer := net.Dialer{Timeout: connTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", p.addr.String())
	if err != nil {
		return nil, fmt.Errorf("%w to %s: %w", errConnect, p.addr, cause(err))
	}
	s := &stream{Conn: conn, out: make(chan []byte), ended: make(chan struct{})}
	p.tcp = s
	p.workers.Go(s.write)
	p.workers.Go(func() { s.end(s.read(p.deliver)) })
	return s, nil
}

// read ends with the connection. What is no SIP ends it, since nobody could tell where the
// next message begins; so does a message over 64 kB, the parser's limit.
func (s *stream) read(deliver func(sip.Message)) error {
	parser := sip.NewParser().NewSIPStream()
	defer parser.Close()
	b := make([]byte, 1<<16)
	for {
		n, err := s.Read(b)
		if err != nil {
			return err
		}
		s.heard.Add(1)
		if err := parser.ParseSIPStream(b[:n], deliver); err != nil && !errors.Is(err, sip.ErrParseSipPartial) {
			return err
		}
	}
}

// write is the one goroutine that writes. Were it the requests themselves, the end of one
// during its write would leave the others half a message, and every further write would
// put off the deadline of one that is stuck.
func (s *stream) write() {
	for {
		select {
		case data := <-s.out:
			s.SetWriteDeadline(time.Now().Add(connTimeout))
			if _, err := s.Write(data); err != nil {
				s.end(err)
			}
		case <-s.ended:
			return
		}
	}
}

// silence is how long a connection may say nothing while a request waits. TCP itself would
// take up to a quarter of an hour to notice that there is nobody at the other end.
var silence = 10 * time.Second // a test shortens it

var errSilent = errors.New("nothing heard for too long")

// overTCP is a non-INVITE client transaction over TCP (RFC 3261 section 17.1.2).
func (p *path) overTCP(ctx context.Context, req *sip.Request, branch string, answers <-chan *sip.Response) (*sip.Response, error) {
	s, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	out, data := s.out, stamp(req, "TCP", s.LocalAddr().(*net.TCPAddr).AddrPort(), branch)
	heard := s.heard.Load()
	silent := time.NewTimer(silence)
	defer silent.Stop()
	for {
		select {
		case out <- data:
			out = nil // written once
		case <-silent.C:
			if now := s.heard.Load(); now != heard {
				heard = now
				silent.Reset(silence)
			} else {
				s.end(errSilent)
			}
		case res := <-answers:
			if !res.IsProvisional() {
				return res, nil
			}
		case <-s.ended:
			for len(answers) > 0 { // what came before the end counts
				if res := <-answers; !res.IsProvisional() {
					return res, nil
				}
			}
			return nil, fmt.Errorf("connection to %s lost: %w", p.addr, s.why)
		case <-ctx.Done():
			if err = unanswered(ctx); errors.Is(err, errNoAnswer) && s.heard.Load() == heard {
				s.end(err)
			}
			return nil, err
		}
	}
}
