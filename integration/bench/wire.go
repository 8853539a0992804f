package main

import (
	"bytes"
	"strconv"
)

// request is what a responder reads of a request: slices of the datagram.
type request struct {
	user                        []byte // of the Request-URI
	via, from, to, callID, cseq []byte // header values
	ifMatch                     []byte
	expires                     int
	body                        []byte
}

// parseRequest reads a PUBLISH; anything else is refused.
func parseRequest(data []byte) (m request, ok bool) {
	head, body, ok := bytes.Cut(data, []byte("\r\n\r\n"))
	if !ok || !bytes.HasPrefix(head, []byte("PUBLISH sip:")) {
		return m, false
	}
	m.body, m.expires = body, 3600
	start, head, _ := bytes.Cut(head, []byte("\r\n"))
	m.user, _, _ = bytes.Cut(start[len("PUBLISH sip:"):], []byte("@"))
	for len(head) > 0 {
		var line []byte
		line, head, _ = bytes.Cut(head, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Via")):
			m.via = value
		case bytes.EqualFold(name, []byte("From")):
			m.from = value
		case bytes.EqualFold(name, []byte("To")):
			m.to = value
		case bytes.EqualFold(name, []byte("Call-ID")):
			m.callID = value
		case bytes.EqualFold(name, []byte("CSeq")):
			m.cseq = value
		case bytes.EqualFold(name, []byte("SIP-If-Match")):
			m.ifMatch = value
		case bytes.EqualFold(name, []byte("Expires")):
			m.expires = atoi(value)
		}
	}
	return m, len(m.via) > 0
}

// appendResponse writes the answer.
func appendResponse(b []byte, m request, status int, tag uint32) []byte {
	switch status {
	case 200:
		b = append(b, "SIP/2.0 200 OK\r\n"...)
	case 412:
		b = append(b, "SIP/2.0 412 Conditional Request Failed\r\n"...)
	default:
		b = append(b, "SIP/2.0 400 Bad Request\r\n"...)
	}
	line := func(name string, value []byte) {
		b = append(append(b, name...), value...)
		b = append(b, "\r\n"...)
	}
	line("Via: ", m.via)
	line("From: ", m.from)
	b = append(append(append(b, "To: "...), m.to...), ";tag=bench\r\n"...)
	line("Call-ID: ", m.callID)
	line("CSeq: ", m.cseq)
	if status == 200 {
		b = appendTag(append(b, "SIP-ETag: "...), tag)
		b = strconv.AppendInt(append(b, "\r\nExpires: "...), int64(m.expires), 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "Content-Length: 0\r\n\r\n"...)
}

// answeredUsers returns caller and callee of a 200 OK to an INVITE, as [place] has them.
func answeredUsers(data []byte) (caller, callee int, ok bool) {
	if !bytes.HasPrefix(data, []byte("SIP/2.0 200 ")) || !bytes.Contains(data, []byte(" INVITE\r\n")) {
		return 0, 0, false
	}
	caller, ok1 := userIn(data, "\r\nFrom: <sip:")
	callee, ok2 := userIn(data, "\r\nTo: <sip:")
	return caller, callee, ok1 && ok2
}

func userIn(data []byte, before string) (int, bool) {
	_, rest, ok := bytes.Cut(data, []byte(before))
	name, _, _ := bytes.Cut(rest[:min(len(rest), 16)], []byte("@"))
	n, known := place(name)
	return n, ok && known
}

// atoi reads a number that fits an Expires; what is none is 0.
func atoi(b []byte) (n int) {
	for _, c := range b {
		if c < '0' || c > '9' || n > 1<<30 {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	return n
}
