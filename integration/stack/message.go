package stack

import (
	"crypto/rand"
	"strconv"
	"strings"
	"time"
)

// message is a SIP message, read just as far as phones, watchers and recorders on
// loopback need it.
type message struct {
	text    string
	start   string // the first line
	headers []header
	body    string
	at      time.Time // of its arrival
}

type header struct{ name, value string }

// compact are the short forms of header names (RFC 3261 section 7.3.3, RFC 6665).
var compact = map[string]string{"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact",
	"l": "content-length", "c": "content-type", "o": "event"}

func parseMessage(text string) (*message, bool) {
	head, body, ok := strings.Cut(text, "\r\n\r\n")
	if !ok {
		return nil, false
	}
	m := &message{text: text, body: body, headers: make([]header, 0, 16)}
	m.start, head, _ = strings.Cut(head, "\r\n")
	for more := head != ""; more; {
		var line string
		line, head, more = strings.Cut(head, "\r\n")
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, false
		}
		name = strings.ToLower(strings.TrimSpace(name))
		if long := compact[name]; long != "" {
			name = long
		}
		m.headers = append(m.headers, header{name, strings.TrimSpace(value)})
	}
	return m, true
}

// get returns a header's first value; the name is in lower case.
func (m *message) get(name string) string {
	for _, h := range m.headers {
		if h.name == name {
			return h.value
		}
	}
	return ""
}

// all returns a header's values, from top to bottom.
func (m *message) all(name string) []string {
	var values []string
	for _, h := range m.headers {
		if h.name == name {
			for v := range strings.SplitSeq(h.value, ",") {
				values = append(values, strings.TrimSpace(v))
			}
		}
	}
	return values
}

// number returns a header that holds a number, -1 if there is none.
func (m *message) number(name string) int {
	n, err := strconv.Atoi(m.get(name))
	if err != nil {
		return -1
	}
	return n
}

// method returns the method of a request, or of the request that a response is to.
func (m *message) method() string {
	if m.status() == 0 {
		method, _, _ := strings.Cut(m.start, " ")
		return method
	}
	_, method, _ := strings.Cut(m.get("cseq"), " ")
	return strings.TrimSpace(method)
}

// uri returns the Request-URI.
func (m *message) uri() string {
	_, rest, _ := strings.Cut(m.start, " ")
	uri, _, _ := strings.Cut(rest, " ")
	return uri
}

// status returns the status code of a response, 0 for a request.
func (m *message) status() int {
	rest, ok := strings.CutPrefix(m.start, "SIP/2.0 ")
	if !ok || len(rest) < 3 {
		return 0
	}
	n, _ := strconv.Atoi(rest[:3])
	return n
}

// branch returns the transaction's name, from the topmost Via.
func (m *message) branch() string { return parameter(m.get("via"), "branch") }

// parameter returns a parameter behind a header's value.
func parameter(value, name string) string {
	for p := range strings.SplitSeq(value, ";") {
		if k, v, _ := strings.Cut(strings.TrimSpace(p), "="); strings.EqualFold(k, name) {
			v, _, _ = strings.Cut(v, ",")
			return v
		}
	}
	return ""
}

// address returns the URI inside of <>.
func address(value string) string {
	_, rest, ok := strings.Cut(value, "<")
	if !ok {
		uri, _, _ := strings.Cut(value, ";")
		return strings.TrimSpace(uri)
	}
	uri, _, _ := strings.Cut(rest, ">")
	return uri
}

// userOf returns the user part of a URI.
func userOf(uri string) string {
	user, _, _ := strings.Cut(uri, "@")
	_, user, ok := strings.Cut(user, ":")
	if !ok {
		return ""
	}
	return user
}

// response answers a request. A request without a To tag is given one: toTag.
func (m *message) response(status, toTag, extra, body string) string {
	var b strings.Builder
	b.Grow(1024)
	b.WriteString("SIP/2.0 " + status + "\r\n")
	for _, h := range m.headers {
		switch h.name {
		case "via":
			b.WriteString("Via: " + h.value + "\r\n")
		case "from":
			b.WriteString("From: " + h.value + "\r\n")
		case "to":
			b.WriteString("To: " + h.value)
			if toTag != "" && parameter(h.value, "tag") == "" {
				b.WriteString(";tag=" + toTag)
			}
			b.WriteString("\r\n")
		case "call-id":
			b.WriteString("Call-ID: " + h.value + "\r\n")
		case "cseq":
			b.WriteString("CSeq: " + h.value + "\r\n")
		case "record-route":
			b.WriteString("Record-Route: " + h.value + "\r\n")
		}
	}
	b.WriteString(extra + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
	return b.String()
}

// request is what requests of ours are made of.
type request struct {
	method, uri, branch, from, to, callID string
	cseq                                  int
	routes                                []string
	extra                                 string // whole header lines
	via                                   string // host:port
	body                                  string
}

func (r request) String() string {
	var b strings.Builder
	b.Grow(768)
	b.WriteString(r.method + " " + r.uri + " SIP/2.0\r\nVia: SIP/2.0/UDP " + r.via + ";rport;branch=" + r.branch + "\r\n")
	for _, route := range r.routes {
		b.WriteString("Route: " + route + "\r\n")
	}
	b.WriteString("From: " + r.from + "\r\nTo: " + r.to + "\r\nCall-ID: " + r.callID + "\r\nCSeq: " +
		strconv.Itoa(r.cseq) + " " + r.method + "\r\nMax-Forwards: 70\r\n" + r.extra + "Content-Length: " +
		strconv.Itoa(len(r.body)) + "\r\n\r\n" + r.body)
	return b.String()
}

// newBranch names a transaction, as RFC 3261 section 8.1.1.7 wants it.
func newBranch() string { return "z9hG4bK" + rand.Text() }
