package kamailio

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cgrates/kamevapi"
)

// kamevapi reads evapi, but it trusts its peer: a bad length ends the process, only a
// clean end of file is noticed, and nothing has a deadline. So it never meets Kamailio.
// A guard does, checks every frame, and hands the good ones to kamevapi over a loopback
// connection inside the process, whose end is always a clean one.
//
// One guard and one KamEvapi serve one connection to Kamailio, and end with it.

// Deadlines of a connection.
const (
	dialTimeout  = 3 * time.Second
	writeTimeout = 3 * time.Second
	// silence is three of the snippet's heartbeats: a peer that is quiet for longer is
	// gone without a word (no FIN).
	silence = 3 * heartbeat
	// heartbeat is BUSYLAMP_TIMER_HEARTBEAT's interval.
	heartbeat = 2 * time.Second
)

// maxWaiting bounds the frames between kamevapi and the engine.
const maxWaiting = 8192

// guard is one connection to Kamailio's evapi.
type guard struct {
	upstream   net.Conn
	downstream net.Conn
	evapi      *kamevapi.KamEvapi
	// frames are payloads in the order in which kamevapi's goroutines came to run, which
	// is not quite the order of their arrival.
	frames  chan []byte
	dropped atomic.Uint64 // frames that found no room
	foreign atomic.Uint64 // frames that are not from busylamp.cfg
	done    chan struct{}
	once    sync.Once
	err     error // why the connection ended; set before done closes
	workers sync.WaitGroup
}

// openGuard connects to Kamailio, registers for the events, and puts kamevapi behind.
func openGuard(ctx context.Context, addr string) (*guard, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	upstream, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("evapi: %w", err)
	}
	g := &guard{upstream: upstream, frames: make(chan []byte, maxWaiting), done: make(chan struct{})}
	if err := g.open(); err != nil {
		upstream.Close()
		return nil, err
	}
	g.workers.Go(g.pump)
	g.workers.Go(func() {
		err := g.evapi.ReadEvents()
		g.end(fmt.Errorf("evapi reader: %w", err))
	})
	return g, nil
}

func (g *guard) open() error {
	g.upstream.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := fmt.Fprintf(g.upstream, "%d:%s,", len(register), register); err != nil {
		return fmt.Errorf("evapi: register: %w", err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("evapi guard: %w", err)
	}
	defer listener.Close()
	listener.(*net.TCPListener).SetDeadline(time.Now().Add(dialTimeout))
	accepted := make(chan error, 1)
	go func() {
		var err error
		g.downstream, err = listener.Accept()
		accepted <- err
	}()
	everything := map[*regexp.Regexp][]func([]byte, int){regexp.MustCompile(""): {g.handle}}
	noDelay := func(time.Duration, time.Duration) func() time.Duration {
		return func() time.Duration { return 0 }
	}
	g.evapi, err = kamevapi.NewKamEvapi(listener.Addr().String(), 0, 0, 0, noDelay, everything, nil)
	if err2 := <-accepted; err == nil {
		err = err2
	}
	if err != nil {
		if g.downstream != nil {
			g.downstream.Close()
		}
		return fmt.Errorf("evapi guard: %w", err)
	}
	return nil
}

// handle is kamevapi's handler: it runs in a goroutine for every frame, and never waits.
func (g *guard) handle(payload []byte, _ int) {
	select {
	case g.frames <- payload:
	case <-g.done:
	default:
		g.dropped.Add(1)
	}
}

// pump reads Kamailio's frames, always and at once: a client that does not read holds up
// the proxy. Whatever goes wrong ends the connection.
func (g *guard) pump() {
	r := bufio.NewReaderSize(g.upstream, 256<<10)
	w := bufio.NewWriterSize(g.downstream, 64<<10)
	var payload, buf []byte
	var err error
	g.upstream.SetReadDeadline(time.Now().Add(silence))
	for {
		if payload, buf, err = readNetstring(r, buf); err != nil {
			break
		}
		if !bytes.HasPrefix(payload, []byte(magic)) {
			g.foreign.Add(1)
			continue
		}
		g.upstream.SetReadDeadline(time.Now().Add(silence))
		if err = g.forward(w, payload, r.Buffered() == 0); err != nil {
			break
		}
	}
	g.end(fmt.Errorf("evapi: %w", err))
}

// forward hands a frame to kamevapi, together with those that follow at once.
func (g *guard) forward(w *bufio.Writer, payload []byte, last bool) error {
	g.downstream.SetWriteDeadline(time.Now().Add(writeTimeout))
	var length [8]byte
	w.Write(append(strconv.AppendInt(length[:0], int64(len(payload)), 10), ':'))
	w.Write(payload)
	err := w.WriteByte(',')
	if err == nil && last {
		err = w.Flush()
	}
	return err
}

// end closes the connection, for the reason of whoever is first to say one.
func (g *guard) end(why error) {
	g.once.Do(func() {
		g.err = why
		close(g.done)
		g.upstream.Close()
		g.downstream.Close() // a clean end of file for kamevapi
	})
}

// close ends the connection and returns when its goroutines have.
func (g *guard) close() {
	g.end(net.ErrClosed)
	g.workers.Wait()
}
