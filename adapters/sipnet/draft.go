package sipnet

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

// Draft is a request outside any dialog, written but for what depends on the way that it
// goes and on challenges that it meets: the Via, its number, the credentials, the host of a
// Contact. Its bytes are not kept once [Client.Send] has returned. It must not be used by two
// requests at a time.
type Draft struct {
	Method sip.RequestMethod
	URI    string // the Request-URI
	Domain string // its host
	// Head and Tail are header lines, each with its CRLF: those before the CSeq, and those
	// after it but for Contact and Content-Length.
	Head, Tail []byte
	// Contact is the address of a Contact, up to its host and what follows that, the brackets
	// included; zero for none.
	Contact struct{ Before, After []byte }
	Number  uint32 // the CSeq's; challenges make it greater
	Body    []byte
	// Timeout bounds the request, beside its context; 0 does not.
	Timeout time.Duration
	// Brief has an answer of 2xx with no more than the headers SIP-ETag and Expires, which is
	// the draft's own: it is another's when the draft is sent once more.
	Brief bool

	credentials []string       // header lines, with CRLF
	local       netip.AddrPort // that it was sent from last
	until       time.Time      // its time ends; zero for never
	answer      *sip.Response  // room for a brief one
}

// room returns where a brief answer is written; nil where none is wanted.
func (d *Draft) room() *sip.Response {
	if d.Brief && d.answer == nil {
		d.answer = sip.NewResponse(0, "")
	}
	if !d.Brief {
		return nil
	}
	return d.answer
}

// origin is where requests of one socket or connection come from, as their headers say it.
type origin struct {
	addr    netip.AddrPort
	via     string // a Via up to its branch
	viaEnd  string // and after it
	contact string // the host and the parameters of a Contact
}

func newOrigin(transport string, local netip.AddrPort) origin {
	local = netip.AddrPortFrom(local.Addr().Unmap().WithZone(""), local.Port())
	o := origin{addr: local, via: "Via: SIP/2.0/" + transport + " " + local.String() + ";branch=" + cookie,
		viaEnd:  ";rport\r\n", // RFC 3581: the answer finds the way back through a NAT
		contact: local.String() + ";transport=" + strings.ToLower(transport)}
	if transport != "UDP" {
		o.viaEnd = ";rport;alias\r\n" // RFC 5923: requests to us may come over this connection
	}
	return o
}

// write appends the whole request.
func (d *Draft) write(b []byte, from *origin, br branch) []byte {
	b = append(append(append(append(b, d.Method...), ' '), d.URI...), " SIP/2.0\r\n"...)
	b = append(append(append(b, from.via...), br[:]...), from.viaEnd...)
	b = append(b, d.Head...)
	b = strconv.AppendUint(append(b, "CSeq: "...), uint64(d.Number), 10)
	b = append(append(append(b, ' '), d.Method...), "\r\n"...)
	for _, line := range d.credentials {
		b = append(b, line...)
	}
	if len(d.Contact.Before) > 0 {
		b = append(append(b, "Contact: "...), d.Contact.Before...)
		b = append(append(append(b, from.contact...), d.Contact.After...), "\r\n"...)
	}
	b = append(b, d.Tail...)
	b = strconv.AppendInt(append(b, "Content-Length: "...), int64(len(d.Body)), 10)
	return append(append(b, "\r\n\r\n"...), d.Body...)
}

// cookie begins every branch (RFC 3261 section 8.1.1.7).
const cookie = "z9hG4bK"

// branch is what tells a transaction from others, but for the cookie: 120 random bits, so
// that nobody answers who has not seen the request.
type branch [24]byte

func newBranch() (b branch) { AppendToken(b[:0], len(b)); return b }

// parse takes a Via's branch, and tells whether it can be one of ours.
func (b *branch) parse(value string) bool {
	value, ok := strings.CutPrefix(value, cookie)
	return ok && len(value) == copy(b[:], value) && len(value) == len(b)
}

// AppendToken appends so many random characters of a token (RFC 3261 section 25.1), of five
// bits each: a tag or a Call-ID.
func AppendToken(b []byte, n int) []byte {
	const letters = "0123456789abcdefghijklmnopqrstuv"
	for n > 0 {
		bits := rand.Uint64()
		for range min(n, 12) {
			b = append(b, letters[bits&31])
			bits >>= 5
		}
		n -= min(n, 12)
	}
	return b
}

// draftOf returns a request as a draft. What Send writes itself is left out.
func draftOf(req *sip.Request) *Draft {
	d := &Draft{Method: req.Method, URI: req.Recipient.String(), Domain: req.Recipient.Host, Number: 1, Body: req.Body()}
	lines := &d.Head
	for _, h := range req.Headers() {
		switch h := h.(type) {
		case *sip.ViaHeader, *sip.ContentLengthHeader:
			continue
		case *sip.CSeqHeader:
			d.Number, lines = h.SeqNo, &d.Tail
			continue
		case *sip.ContactHeader:
			if h.Address.Host == "" {
				d.Contact.Before, d.Contact.After = aroundHost(h)
				continue
			}
		}
		*lines = append(append(*lines, h.String()...), "\r\n"...)
	}
	return d
}

// aroundHost returns a Contact without a host, up to where that belongs and from there on.
func aroundHost(c *sip.ContactHeader) (before, after []byte) {
	const here = "\x00"
	named := *c
	named.Address.Host = here
	before, after, _ = bytes.Cut([]byte(named.Value()), []byte(here))
	return before, after
}

// note puts on a request what it was sent with last.
func (d *Draft) note(req *sip.Request) {
	if cseq := req.CSeq(); cseq != nil {
		cseq.SeqNo = d.Number
	}
	if d.local.IsValid() {
		req.Laddr = sip.Addr{IP: d.local.Addr().AsSlice(), Port: int(d.local.Port())}
	}
}
