package sipnet

import (
	"bytes"
	"strconv"
	"time"

	"github.com/emiago/sipgo/sip"
)

// glimpse is what is read of an answer of 2xx without a parser, as nearly all are: enough to
// know whose it is, and the two headers that say what a publication is from now on.
type glimpse struct {
	status        int
	branch        branch
	method        []byte
	number        uint32
	etag, expires []byte
	reason        []byte
	length        int // bytes, with the body
}

// glance reads an answer of 2xx, and tells whether it is as plain as they are meant to be:
// no folded line, each header that matters once, a body's length that is there. Whatever is
// not goes to the parser, which also knows what to make of it. On what glance takes, the two
// agree (FuzzGlance).
func glance(b []byte) (g glimpse, ok bool) {
	line, rest, ok := cutLine(b)
	status, found := bytes.CutPrefix(line, []byte("SIP/2.0 2"))
	if !ok || !found || len(status) < 3 || status[2] != ' ' || !isDigit(status[0]) || !isDigit(status[1]) {
		return g, false
	}
	g.status, g.reason = 200+10*int(status[0]-'0')+int(status[1]-'0'), status[3:]
	g.length = -1
	var seen [len(known)]bool
	for {
		if line, rest, ok = cutLine(rest); !ok {
			return g, false
		}
		if len(line) == 0 {
			break
		}
		colon := bytes.IndexByte(line, ':')
		if colon < 1 || line[0] == ' ' || line[0] == '\t' {
			return g, false
		}
		i, plain := knownHeader(line[:colon])
		if i < 0 && plain {
			continue
		}
		if !plain || seen[i] || !g.take(i, bytes.Trim(line[colon+1:], " ")) {
			return g, false
		}
		seen[i] = true
	}
	head := len(b) - len(rest)
	if !seen[isVia] || !seen[isCSeq] || g.length < 0 || g.length > len(rest) {
		return g, false
	}
	g.length += head
	return g, true
}

// cutLine divides at the first line end, which has to be a CRLF.
func cutLine(b []byte) (line, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 1 || bytes.IndexByte(b[:i], '\r') != i-1 {
		return nil, nil, false
	}
	return b[:i-1], b[i+1:], true
}

// Headers that matter.
const (
	isVia = iota
	isCSeq
	isETag
	isExpires
	isLength
)

var known = [...]string{isVia: "Via", isCSeq: "CSeq", isETag: "SIP-ETag", isExpires: "Expires", isLength: "Content-Length"}

// knownHeader returns which header a name is of, -1 for none that matters, and whether it is
// written as it nearly always is, and not in other letters or its short form.
func knownHeader(name []byte) (i int, plain bool) {
	for i, k := range known {
		if len(name) == len(k) && string(name) == k {
			return i, true
		}
	}
	switch len(name) {
	case 1:
		return -1, name[0]|0x20 != 'v' && name[0]|0x20 != 'l'
	case len("Via"), len("CSeq"), len("SIP-ETag"), len("Expires"), len("Content-Length"):
		for _, k := range known {
			if bytes.EqualFold(name, []byte(k)) {
				return -1, false
			}
		}
	}
	return -1, name[0] > ' ' && name[len(name)-1] > ' ' // no space around it
}

// take reads a header's value, and tells whether it is plain.
func (g *glimpse) take(header int, value []byte) bool {
	switch header {
	case isVia:
		_, after, found := bytes.Cut(value, viaBranch)
		if !found || bytes.IndexByte(value, ',') >= 0 || bytes.IndexByte(value, '"') >= 0 || bytes.Contains(after, viaBranch) {
			return false
		}
		if end := bytes.IndexByte(after, ';'); end >= 0 {
			after = after[:end]
		}
		return g.branch.parse(string(after))
	case isCSeq:
		number, method, found := bytes.Cut(value, []byte{' '})
		n, err := strconv.ParseUint(string(number), 10, 32)
		g.number, g.method = uint32(n), method
		return found && err == nil && isDigit(number[0]) && isWord(method)
	case isETag:
		g.etag = value
		return isWord(value)
	case isExpires:
		g.expires = value
		return isWord(value)
	default:
		n, err := strconv.ParseUint(string(value), 10, 20)
		g.length = int(n)
		return err == nil && isDigit(value[0])
	}
}

var viaBranch = []byte(";branch=")

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isWord returns whether a value is one word of ASCII that can be seen.
func isWord(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return len(b) > 0
}

// response writes as much of a response as was seen over one that was written so before.
func (g *glimpse) response(res *sip.Response) {
	res.StatusCode, res.Reason = g.status, "OK"
	if string(g.reason) != res.Reason {
		res.Reason = string(g.reason)
	}
	res.RemoveHeader("SIP-ETag")
	res.RemoveHeader("Expires")
	if g.etag != nil {
		res.AppendHeader(sip.NewHeader("SIP-ETag", string(g.etag)))
	}
	if g.expires != nil {
		res.AppendHeader(sip.NewHeader("Expires", string(g.expires)))
	}
}

// deliverGlimpse hands an answer to whom it is for, and tells whether it could: whoever wants
// to see it all, or is shown it, is served by [path.deliver].
func (p *path) deliverGlimpse(g *glimpse) bool {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.waiting[g.branch]
	if w == nil || w.brief == nil || w.trace != nil || string(g.method) != string(w.method) || g.number != w.number {
		return false
	}
	g.response(w.brief)
	p.answer(w, w.brief, now)
	return true
}
