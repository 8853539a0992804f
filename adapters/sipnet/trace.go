package sipnet

import (
	"context"
	"net/netip"
	"strings"
	"time"
)

// Traced is one message that went over the wire, for people to look at. Credentials are
// taken out of it.
type Traced struct {
	Time      time.Time
	Sent      bool   // by us; else received
	Transport string // "udp", "tcp" or "tls"
	Local     netip.AddrPort
	Remote    netip.AddrPort
	Message   string
}

type traceKey struct{}

// WithTrace returns a context under which [Client.Do] tells f of every message that it
// sends and receives, retransmissions included. f must be quick, and is called from several
// goroutines.
func WithTrace(ctx context.Context, f func(Traced)) context.Context {
	return context.WithValue(ctx, traceKey{}, traceFunc(f))
}

// traceFunc is who wants to see a request's messages; nil, as it nearly always is, for
// nobody.
type traceFunc func(Traced)

func tracing(ctx context.Context) traceFunc {
	f, _ := ctx.Value(traceKey{}).(traceFunc)
	return f
}

// link is the way of a message, for those who look at it.
type link struct {
	transport     string // "udp", "tcp" or "tls"
	local, remote netip.AddrPort
}

// sent tells of a message that went out.
func (f traceFunc) sent(l link, message []byte) {
	if f != nil {
		f.tell(l, true, string(message))
	}
}

// received tells of a message that came in. It is written out again, in the parser's words.
func (f traceFunc) received(l link, message interface{ String() string }) {
	if f != nil {
		f.tell(l, false, message.String())
	}
}

func (f traceFunc) tell(l link, sent bool, message string) {
	f(Traced{Time: time.Now(), Sent: sent, Transport: l.transport, Local: unmapped(l.local), Remote: unmapped(l.remote),
		Message: scrub(message)})
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// secrets are the headers with something in them that could be replayed or tried passwords
// on, and the parameters that are told nevertheless. Others' values become "...".
var secrets = map[string][]string{
	"authorization":             {"username", "realm", "uri", "algorithm", "nc", "qop"},
	"proxy-authorization":       {"username", "realm", "uri", "algorithm", "nc", "qop"},
	"www-authenticate":          {"realm", "algorithm", "qop", "stale", "domain", "charset", "userhash"},
	"proxy-authenticate":        {"realm", "algorithm", "qop", "stale", "domain", "charset", "userhash"},
	"authentication-info":       {"qop", "nc"},
	"proxy-authentication-info": {"qop", "nc"},
}

// scrub takes the secrets out of a message. It looks at every line, of the body too: an
// answer may repeat its request there (message/sipfrag).
func scrub(message string) string {
	var b strings.Builder
	b.Grow(len(message))
	for message != "" {
		n := headerEnd(message)
		line := message[:n]
		message = message[n:]
		name, value, ok := strings.Cut(line, ":")
		lower := strings.ToLower(strings.Trim(name, " \t"))
		plain, secret := secrets[lower]
		if !ok || !secret {
			b.WriteString(line)
			continue
		}
		end := value[len(strings.TrimRight(value, "\r\n")):]
		b.WriteString(name + ": ")
		scrubValue(&b, strings.TrimSpace(value), plain, strings.HasSuffix(lower, "-info"))
		b.WriteString(end)
	}
	return b.String()
}

// headerEnd returns the length of the first line with those that continue it.
func headerEnd(s string) int {
	for i := 0; ; {
		n := strings.IndexByte(s[i:], '\n')
		if n < 0 {
			return len(s)
		}
		if i += n + 1; i == len(s) || s[i] != ' ' && s[i] != '\t' {
			return i
		}
	}
}

// scrubValue writes a scheme and its parameters, or parameters alone, without the values of
// those that are not plain. Of a scheme other than Digest nothing is known, and all goes.
func scrubValue(b *strings.Builder, value string, plain []string, bare bool) {
	if !bare {
		scheme, rest, _ := strings.Cut(value, " ")
		if !strings.EqualFold(scheme, "Digest") {
			b.WriteString("...")
			return
		}
		b.WriteString(scheme + " ")
		value = rest
	}
	sep := ""
	eachParam(value, func(name, v string) bool {
		b.WriteString(sep)
		sep = ", "
		if name == "" {
			b.WriteString("...")
			return true
		}
		b.WriteString(name + "=")
		if !contains(plain, name) || !whole(v) {
			v = `"..."`
		}
		b.WriteString(v)
		return true
	})
}

// whole returns whether a value is one token or one quoted-string, and not what a quote at
// the wrong place makes of the parameters after it.
func whole(v string) bool {
	for _, name := range []string{"nonce=", "response=", "opaque=", "rspauth="} {
		if strings.Contains(strings.ToLower(v), name) {
			return false
		}
	}
	inner, quoted := strings.CutPrefix(v, `"`)
	if !quoted {
		return !strings.ContainsAny(v, `"=`)
	}
	for i := 0; i < len(inner); i++ {
		switch inner[i] {
		case '\\':
			i++
		case '"':
			return i == len(inner)-1
		}
	}
	return false
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}
