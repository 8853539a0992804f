package sipnet

import (
	"cmp"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/emiago/sipgo/sip"
)

// inbound answers the requests that come over our own sockets and connections: a server's
// OPTIONS to see whether we live, a NOTIFY to a watcher.
type inbound struct {
	handle  func(*sip.Request) *sip.Response
	slots   chan struct{} // one for each handler that runs
	anyPeer bool          // not the server alone is answered
	patient bool          // one after another is handled, and who reads waits for that
	lost    func(local netip.AddrPort)
	most    int // bytes of a message on a connection
	log     *slog.Logger
}

// maxHandlers bounds the requests of a server that are handled at a time.
const maxHandlers = 64

func newInbound(cfg Config) *inbound {
	in := &inbound{handle: cfg.OnRequest, slots: make(chan struct{}, maxHandlers), anyPeer: cfg.AnyPeer, patient: cfg.Patient,
		lost: cfg.OnLost, most: cmp.Or(cfg.MaxMessage, maxHead), log: cfg.Log}
	if in.handle == nil {
		in.handle = optionsOnly
	}
	if in.lost == nil {
		in.lost = func(netip.AddrPort) {}
	}
	return in
}

// optionsOnly is who wants nothing from a server: alive (RFC 3261 section 11.2), and no more.
func optionsOnly(req *sip.Request) *sip.Response {
	res := sip.NewResponseFromRequest(req, sip.StatusOK, "OK", nil)
	if req.Method != sip.OPTIONS {
		res = sip.NewResponseFromRequest(req, sip.StatusMethodNotAllowed, "Method Not Allowed", nil)
	}
	res.AppendHeader(sip.NewHeader("Allow", "OPTIONS"))
	return res
}

// turns has what it is given run in goroutines of a path: each in one of its own, or for the
// patient one after another, in order, with so many waiting that reading goes on meanwhile.
// end says that no more will come.
func (in *inbound) turns(workers *sync.WaitGroup) (run func(func()), end func()) {
	if !in.patient {
		return workers.Go, func() {}
	}
	queue := make(chan func(), maxHandlers)
	workers.Go(func() {
		for f := range queue {
			f()
		}
	})
	return func(f func()) { queue <- f }, func() { close(queue) } // a handler waits for nobody who reads
}

// take handles a request in a goroutine as run has it, see turns, and answers it by
// reply, the way back. A malformed one is dropped; so is ACK, which has no answer. It
// comes again when the answer was lost: the handler has to bear that.
func (in *inbound) take(req *sip.Request, l link, run func(func()), reply func([]byte)) {
	if req.IsAck() || !wellFormed(req) {
		return
	}
	req.SetTransport(strings.ToUpper(l.transport))
	req.SetSource(unmapped(l.remote).String())
	if !in.patient && !in.free() {
		reply([]byte(sip.NewResponseFromRequest(req, sip.StatusServiceUnavailable, "Service Unavailable", nil).String()))
		return
	}
	run(func() {
		if !in.patient {
			defer func() { <-in.slots }()
		}
		if res := in.handle(req); res != nil {
			reply([]byte(res.String()))
		}
	})
}

// free takes a slot, if there is one.
func (in *inbound) free() bool {
	select {
	case in.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

// takes returns whether a datagram from an address is looked at, where it is no response.
func (p *path) takes(from netip.AddrPort) bool { return p.in.anyPeer || fromServer(from, p.addr) }

// fromServer returns whether a datagram can be the server's, which may send from another
// port (RFC 3261 section 18.1.1). On a connection there is no question.
func fromServer(from, server netip.AddrPort) bool {
	return from.Addr().Unmap().WithZone("") == server.Addr().Unmap().WithZone("")
}

// wellFormed returns whether a request has what its answer repeats (RFC 3261 section 8.2.6),
// and nothing in it that would make two lines of one.
func wellFormed(req *sip.Request) bool {
	if !strings.EqualFold(req.SipVersion, "SIP/2.0") || req.Via() == nil || req.From() == nil || req.To() == nil ||
		req.CallID() == nil || req.CSeq() == nil || req.CSeq().MethodName != req.Method {
		return false
	}
	for _, h := range req.Headers() {
		if strings.ContainsAny(h.Name(), " \t\n\x00") || strings.ContainsAny(h.Value(), "\n\x00") {
			return false
		}
	}
	return true
}

// fromDatagram takes a message that came in a datagram. run is for a request.
func (p *path) fromDatagram(msg sip.Message, from netip.AddrPort, run func(func())) {
	l := p.linkUDP(from)
	p.deliver(msg, l, from == p.addr)
	if req, ok := msg.(*sip.Request); ok && p.takes(from) {
		p.in.take(req, l, run, func(b []byte) { p.udp.WriteToUDPAddrPort(b, from) })
	}
}

// fromStream takes a message that came in by a connection. run is for a request.
func (p *path) fromStream(msg sip.Message, s *stream, l link, run func(func())) {
	p.deliver(msg, l, true)
	if req, ok := msg.(*sip.Request); ok {
		p.in.take(req, l, run, s.reply)
	}
}

// transmit sends a datagram of a request. It is told before, since the answer can be quick.
func (p *path) transmit(w *waiter) error {
	if w.trace != nil {
		w.trace.sent(p.linkUDP(p.addr), w.data)
	}
	return p.send(w.data)
}

func (p *path) linkUDP(remote netip.AddrPort) link {
	return link{transport: "udp", local: p.from.addr, remote: remote}
}

// reply writes to a connection what answers no wait of ours. It may be called by the one
// who reads: a peer that asks and does not read what it gets is not read from either, until
// the writing gives up on it.
func (s *stream) reply(b []byte) {
	select {
	case s.out <- b:
	case <-s.ended:
	}
}

// link returns the ends of a connection.
func (s *stream) link(transport string) link {
	l := link{transport: strings.ToLower(transport)}
	if a, ok := s.raw.LocalAddr().(*net.TCPAddr); ok {
		l.local = a.AddrPort()
	}
	if a, ok := s.raw.RemoteAddr().(*net.TCPAddr); ok {
		l.remote = a.AddrPort()
	}
	return l
}

// transport is what the Via of a request over a connection says.
func (p *path) transport() string {
	if p.tls != nil {
		return "TLS"
	}
	return "TCP"
}
