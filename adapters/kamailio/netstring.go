package kamailio

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// maxNetstring bounds a frame, whoever sends it.
const maxNetstring = 64 << 10

// readNetstring reads one netstring, evapi's frame ("5:hello,"), into buf, which it may
// replace by a larger one, and returns the payload. Whatever is not exactly a netstring
// of at most maxNetstring bytes is an error, for where one frame is cut nothing after it can
// be trusted.
func readNetstring(r *bufio.Reader, buf []byte) (payload, newBuf []byte, err error) {
	n, digits := 0, 0
	for {
		c, err := r.ReadByte()
		if err != nil {
			return nil, buf, eofInside(err, digits > 0)
		}
		if c == ':' && digits > 0 {
			break
		}
		if c < '0' || c > '9' {
			return nil, buf, fmt.Errorf("netstring: %q in the length", c)
		}
		n = n*10 + int(c-'0')
		if digits++; n > maxNetstring || digits > 7 {
			return nil, buf, fmt.Errorf("netstring: a length above %d bytes", maxNetstring)
		}
	}
	if cap(buf) < n+1 {
		buf = make([]byte, n+1)
	}
	b := buf[:n+1]
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, buf, eofInside(err, true)
	}
	if b[n] != ',' {
		return nil, buf, fmt.Errorf("netstring: %q where the comma should be", b[n])
	}
	return b[:n], buf, nil
}

func eofInside(err error, inside bool) error {
	if inside && errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
