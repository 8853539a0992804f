package sipnet

import (
	"bytes"
	"errors"
	"io"

	"github.com/emiago/sipgo/sip"
)

// crlf2 is a ping of RFC 5626 section 3.5.1; its pong is one CRLF.
const crlf2 = "\r\n\r\n"

var pong = []byte("\r\n")

// maxHead bounds a message's start line and headers; the parser bounds the whole of it.
const maxHead = 1<<16 - 1

var errHead = errors.New("a message without an end of its headers")

// framer divides what a connection brings into messages and pings. sipgo's parser skips
// the line ends before a message, but does not say so, and counts them against the length
// of the next one; and it takes a folded header for two when it has but the first line yet,
// so that it is given whole heads.
type framer struct {
	parser *sip.ParserStream
	inside bool // a message's body
	looked int  // bytes of a head without an end so far
}

// feed takes the next bytes. glimpsed may take an answer that needs no parser, and tells
// whether it did. An error says that nobody can tell where the next message begins.
func (f *framer) feed(b []byte, glimpsed func(*glimpse) bool, message func(sip.Message), ping func()) error {
	if _, err := f.parser.Write(b); err != nil {
		return err
	}
	for {
		if !f.inside {
			if f.between(ping) {
				return nil
			}
			if whole, err := f.head(); !whole {
				return err
			}
			if g, ok := glance(f.parser.Buffer().Bytes()); ok && glimpsed(&g) {
				f.parser.Discard(g.length)
				continue
			}
		}
		msg, _, err := f.parser.ParseNext()
		f.inside = errors.Is(err, io.ErrUnexpectedEOF)
		switch {
		case f.inside:
			return nil
		case err != nil:
			return err
		}
		message(msg)
	}
}

// head returns whether all of a message up to its body is there.
func (f *framer) head() (whole bool, err error) {
	b := f.parser.Buffer().Bytes()
	from := max(f.looked-len(crlf2)+1, 0)
	if i := bytes.Index(b[from:], []byte(crlf2)); i >= 0 && from+i <= maxHead {
		f.looked = 0
		return true, nil
	}
	if f.looked = len(b); f.looked > maxHead {
		return false, errHead
	}
	return false, nil
}

// between takes the pings between two messages, those that came together as one, and
// returns whether there is nothing else so far.
func (f *framer) between(ping func()) bool {
	pings := 0
	for ; bytes.HasPrefix(f.parser.Buffer().Bytes(), []byte(crlf2)); pings++ {
		f.parser.Discard(len(crlf2))
	}
	if pings > 0 {
		ping()
	}
	return bytes.HasPrefix([]byte(crlf2), f.parser.Buffer().Bytes())
}
