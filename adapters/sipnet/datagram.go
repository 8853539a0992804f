package sipnet

import (
	"bytes"
	"context"
	"net"
	"time"

	"github.com/emiago/sipgo/sip"
)

// Timers of RFC 3261 section 17.1.2 and its table 4.
const (
	t1 = 500 * time.Millisecond
	t2 = 4 * time.Second
)

// maxDatagram is the largest request to go by UDP (RFC 3261 section 18.1.1).
const maxDatagram = 1300

// noTCPAge is how long it is remembered that a server that we reach by UDP refuses TCP.
const noTCPAge = time.Minute

// socketBuffer is asked of the kernel for a UDP socket. With the default one, answers to a
// burst of a few hundred requests are lost.
const socketBuffer = 4 << 20

// openUDP binds the socket to the address that the kernel would send from, since that goes
// into the Via header.
func (p *path) openUDP() error {
	probe, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.addr))
	if err != nil {
		return p.to("no way to %s by UDP: %w", p.addr, cause(err))
	}
	local := probe.LocalAddr().(*net.UDPAddr)
	probe.Close()
	if p.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: local.IP, Zone: local.Zone}); err != nil {
		return p.to("socket to %s: %w", p.addr, err)
	}
	if p.out, err = newOutlet(p.udp, p.addr); err != nil {
		p.udp.Close()
		return p.to("socket to %s: %w", p.addr, err)
	}
	p.from = newOrigin("UDP", p.udp.LocalAddr().(*net.UDPAddr).AddrPort())
	p.udp.SetReadBuffer(socketBuffer)
	p.udp.SetWriteBuffer(socketBuffer)
	p.workers.Go(p.readUDP)
	return nil
}

// readUDP ends when the socket is closed. An answer is known by its transaction, not by
// where it comes from (RFC 3261 section 17.1.3).
func (p *path) readUDP() {
	run, end := p.in.turns(&p.workers)
	defer func() {
		end()
		p.broken.Store(true)
		p.in.lost(unmapped(p.udp.LocalAddr().(*net.UDPAddr).AddrPort()))
	}()
	parser := sip.NewParser()
	b := make([]byte, 1<<16)
	for {
		n, from, err := p.udp.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if g, ok := glance(b[:n]); ok && p.deliverGlimpse(&g) {
			continue
		}
		if bytes.HasPrefix(b[:n], []byte("SIP/2.0 ")) || p.takes(from) {
			if msg, err := parser.ParseSIP(b[:n]); err == nil {
				p.fromDatagram(msg, from, run)
			}
		}
	}
}

// overUDP is a non-INVITE client transaction over UDP (RFC 3261 section 17.1.2).
func (p *path) overUDP(ctx context.Context, w *waiter) (*sip.Response, error) {
	heard := p.expect(w)
	if err := p.transmit(w); err != nil {
		return nil, err
	}
	interval := t1
	w.wait(interval)
	for {
		select {
		case res := <-w.answers:
			if !res.IsProvisional() {
				return res, nil
			}
			interval = t2
		case <-w.timer.C:
			now := time.Now()
			if w.over(now) {
				return p.last(w, errNoAnswer)
			}
			if w.lastMoment(now) {
				w.wait(t2)
				continue
			}
			next := min(2*interval, t2)
			if mine, later := p.turn(w, next); !mine {
				w.wait(later)
				continue
			}
			if err := p.transmit(w); err != nil {
				return nil, err
			}
			interval = next
			w.wait(interval)
		case <-heard:
			heard = p.heardAgain()
			w.wait(p.resume())
		case <-p.doomed.Done():
			return p.last(w, p.unanswered(ctx))
		case <-p.life.Done():
			return p.last(w, p.unanswered(ctx))
		case <-ctx.Done():
			return p.last(w, p.unanswered(ctx))
		}
	}
}

// wait has the timer run out after d, or at the request's end.
func (w *waiter) wait(d time.Duration) {
	if !w.until.IsZero() {
		d = min(d, time.Until(w.until))
	}
	w.timer.Reset(d)
}

// over tells whether the request's time is.
func (w *waiter) over(now time.Time) bool { return !w.until.IsZero() && !now.Before(w.until) }

// lastMoment tells whether a request is repeated no more. A server that has been silent all
// the while, and takes it in the last moment, would have a publication whose answer nobody
// waits for any more: a second for the 32 s of Timer F.
func (w *waiter) lastMoment(now time.Time) bool {
	return !w.until.IsZero() && w.until.Sub(now) < w.until.Sub(w.began)/32
}

// send writes one datagram. If that fails, the next request has a new socket; those under
// way over this one go on, for what befell this packet need not befall theirs.
func (p *path) send(data []byte) error {
	var err error
	if p.out.conn != nil {
		err = p.out.send(data)
	} else {
		_, err = p.udp.WriteToUDPAddrPort(data, p.addr)
	}
	if err != nil {
		p.broken.Store(true)
		return p.to("send to %s by UDP: %w", p.addr, cause(err))
	}
	return nil
}

// last returns what has come already, else err: an answer counts, however soon the end
// comes after it.
func (p *path) last(w *waiter, err error) (*sip.Response, error) {
	for len(w.answers) > 0 {
		if res := <-w.answers; !res.IsProvisional() {
			return res, nil
		}
	}
	return nil, err
}

func (p *path) isWithoutTCP() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.noTCP)
}

func (p *path) rememberNoTCP() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noTCP = time.Now().Add(noTCPAge)
}
