package kamailio

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/cgrates/kamevapi"
)

// kamevapi reads evapi, but it trusts its peer: a bad length ends the process, only a
// clean end of file is noticed, and nothing has a deadline. So it never meets Kamailio.
// A guard does, checks every frame, and hands the good ones to kamevapi over a loopback
// connection inside the process, whose end is always a clean one.
//
// One guard and one KamEvapi serve one connection to Kamailio, and end with it.

// timing holds what a test shortens.
type timing struct {
	dial, write time.Duration
	// silence is three of the snippet's heartbeats (BUSYLAMP_TIMER_HEARTBEAT): a peer that
	// is quiet for longer is gone without a word (no FIN).
	silence             time.Duration
	firstWait, mostWait time.Duration // between two tries to connect
}

var defaultTiming = timing{dial: 3 * time.Second, write: 3 * time.Second, silence: 6 * time.Second,
	firstWait: 100 * time.Millisecond, mostWait: 3 * time.Second}

// guard is one connection to Kamailio's evapi.
type guard struct {
	upstream   net.Conn
	downstream net.Conn
	evapi      *kamevapi.KamEvapi
	// take gets payloads in kamevapi's goroutines, one for each frame, so their order is not
	// quite that of arrival. It must not wait for the engine.
	take    func(payload []byte)
	inside  chan struct{} // holds one for each frame between the pump and take
	count   *Counters
	timing  timing
	done    chan struct{}
	once    sync.Once
	err     error // why the connection ended; set before done closes
	workers sync.WaitGroup
}

// openGuard connects to Kamailio, registers for the events, and puts kamevapi behind.
func openGuard(ctx context.Context, addr string, t timing, count *Counters, take func([]byte)) (*guard, error) {
	dialer := net.Dialer{Timeout: t.dial}
	upstream, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("evapi: %w", err)
	}
	g := &guard{upstream: upstream, take: take, inside: make(chan struct{}, maxInside), done: make(chan struct{}),
		count: count, timing: t}
	upstream.SetWriteDeadline(time.Now().Add(t.write))
	if _, err := fmt.Fprintf(upstream, "%d:%s,", len(register), register); err != nil {
		upstream.Close()
		return nil, fmt.Errorf("evapi: register: %w", err)
	}
	if err := g.openEvapi(); err != nil {
		upstream.Close()
		return nil, fmt.Errorf("evapi guard: %w", err)
	}
	g.workers.Go(g.pump)
	g.workers.Go(g.read)
	return g, nil
}

// openEvapi makes a KamEvapi that is connected to the guard.
func (g *guard) openEvapi() error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	defer time.AfterFunc(g.timing.dial, func() { listener.Close() }).Stop() // kamevapi's dialing has no timeout
	everything := map[*regexp.Regexp][]func([]byte, int){regexp.MustCompile(""): {g.handle}}
	noDelay := func(time.Duration, time.Duration) func() time.Duration {
		return func() time.Duration { return 0 }
	}
	if g.evapi, err = kamevapi.NewKamEvapi(listener.Addr().String(), 0, 0, 0, noDelay, everything, nil); err != nil {
		return err
	}
	// Anybody on this host may have been first at the listener: kamevapi says a word. (To
	// send is safe now only: later it would race with ReadEvents.)
	word := rand.Text()
	if err = g.evapi.Send(word); err == nil {
		g.downstream, err = accept(listener, fmt.Sprintf("%d:%s,", len(word), word))
	}
	if err != nil {
		listener.Close() // resets the connection if nobody has accepted it
		g.evapi.ReadEvents()
		g.evapi.Disconnect()
	}
	return err
}

// accept returns the connection that begins with a word.
func accept(listener net.Listener, word string) (net.Conn, error) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return nil, err
		}
		said := make([]byte, len(word))
		conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := io.ReadFull(conn, said); err == nil && string(said) == word {
			return conn, nil
		}
		conn.Close()
	}
}

// read lets kamevapi read until its connection ends.
func (g *guard) read() {
	err := g.evapi.ReadEvents()
	g.end(fmt.Errorf("evapi reader: %w", err))
	g.evapi.Disconnect()
}

// maxInside bounds the frames inside kamevapi. They wait there for nothing but a processor,
// and while they do, later ones overtake them: so this bounds by how much.
const maxInside = 256

// handle is kamevapi's handler: it runs in a goroutine for every frame.
func (g *guard) handle(payload []byte, _ int) {
	<-g.inside
	g.take(payload)
}

// pump reads Kamailio's frames, always and at once: a client that does not read holds up
// the proxy. Whatever goes wrong ends the connection.
func (g *guard) pump() {
	w := bufio.NewWriterSize(g.downstream, 64<<10)
	r := bufio.NewReaderSize(flushing{g.upstream, w}, 256<<10)
	var payload, buf []byte
	var err error
	g.upstream.SetReadDeadline(time.Now().Add(g.timing.silence))
	var heard time.Time // as of when the deadlines are; to set them for every frame would cost more than the frame
	renew := g.timing.silence / 8
	for {
		if payload, buf, err = readNetstring(r, buf); err != nil {
			break
		}
		if !bytes.HasPrefix(payload, []byte(magic)) {
			g.count.Foreign.Add(1)
			continue
		}
		if len(payload) > maxFrame {
			err = fmt.Errorf("a frame of %d bytes: busylamp.cfg sends at most %d", len(payload), maxFrame)
			break
		}
		if now := time.Now(); now.Sub(heard) >= renew {
			heard = now
			g.upstream.SetReadDeadline(now.Add(g.timing.silence + renew))
			g.downstream.SetWriteDeadline(now.Add(g.timing.write + renew))
		}
		if err = g.enter(w); err == nil {
			err = forward(w, payload)
		}
		if err != nil {
			break
		}
	}
	g.end(fmt.Errorf("evapi: %w", err))
}

// enter waits until there is room inside kamevapi for another frame than those in w.
func (g *guard) enter(w *bufio.Writer) error {
	select {
	case g.inside <- struct{}{}:
		return nil
	default:
	}
	if err := w.Flush(); err != nil { // or those in w would never leave
		return err
	}
	select {
	case g.inside <- struct{}{}:
		return nil
	case <-g.done:
		return net.ErrClosed
	}
}

// forward hands a frame to kamevapi.
func forward(w *bufio.Writer, payload []byte) error {
	var length [8]byte
	w.Write(append(strconv.AppendInt(length[:0], int64(len(payload)), 10), ':'))
	w.Write(payload)
	return w.WriteByte(',') // bufio keeps the first error
}

// flushing is a reader that has everything forwarded before it waits for more.
type flushing struct {
	io.Reader
	w *bufio.Writer
}

func (f flushing) Read(p []byte) (int, error) {
	if err := f.w.Flush(); err != nil {
		return 0, err
	}
	return f.Reader.Read(p)
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
