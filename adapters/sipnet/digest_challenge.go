package sipnet

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

// Limits of what a server may ask.
const (
	maxChallenge  = 4096 // bytes of a header
	maxChallenges = 8    // of an answer
)

// challenge is a digest challenge that can be answered.
type challenge struct {
	*digest.Challenge
	proxy bool
}

func (c challenge) who() string {
	if c.proxy {
		return "the proxy"
	}
	return "the server"
}

func challengeHeader(proxy bool) string {
	if proxy {
		return "Proxy-Authenticate"
	}
	return "WWW-Authenticate"
}

func answerHeader(proxy bool) string {
	if proxy {
		return "Proxy-Authorization"
	}
	return "Authorization"
}

func infoHeader(proxy bool) string {
	if proxy {
		return "Proxy-Authentication-Info"
	}
	return "Authentication-Info"
}

// challenges returns what a 401 or 407 wants to have answered, or why it has nothing that
// can be. Of several challenges of a realm it is the first that is supported (RFC 8760
// section 2.4); several realms, and a server's beside a proxy's, stand in an answer that a
// forking proxy put together (RFC 3261 section 16.7 step 7).
func challenges(res *sip.Response) (wanted []challenge, why string) {
	seen := 0
	for _, proxy := range []bool{false, true} {
		for _, h := range res.GetHeaders(challengeHeader(proxy)) {
			if seen++; seen > maxChallenges {
				break
			}
			c, err := parseChallenge(h.Value())
			if err != nil {
				if why == "" {
					why = err.Error()
				}
				continue
			}
			if !slices.ContainsFunc(wanted, func(w challenge) bool { return w.proxy == proxy && w.Realm == c.Realm }) {
				wanted = append(wanted, challenge{c, proxy})
			}
		}
	}
	switch {
	case len(wanted) > 0:
		return wanted, ""
	case seen == 0:
		return nil, "it has no challenge"
	}
	return nil, "no challenge that is supported (Digest; MD5, SHA-256 or SHA-512-256; qop auth): " + why
}

// parseChallenge reads one challenge. An error says why it cannot be answered; it repeats
// no secret.
func parseChallenge(s string) (*digest.Challenge, error) {
	if len(s) > maxChallenge {
		return nil, fmt.Errorf("one of %d bytes, over %d", len(s), maxChallenge)
	}
	scheme, _, _ := strings.Cut(strings.TrimSpace(s), " ")
	if !strings.EqualFold(scheme, "Digest") {
		return nil, fmt.Errorf("scheme %q", cut(scheme))
	}
	c, err := digest.ParseChallenge(strings.TrimSpace(s))
	if err != nil {
		return nil, fmt.Errorf("malformed: %w", err)
	}
	if c.Nonce == "" {
		return nil, fmt.Errorf("realm %q without a nonce", cut(c.Realm))
	}
	if !repeatable(c.Realm) || !repeatable(c.Nonce) || !repeatable(c.Opaque) {
		return nil, fmt.Errorf("realm %q has characters that cannot be repeated", cut(c.Realm))
	}
	switch strings.ToUpper(c.Algorithm) {
	case "", "MD5", "SHA-256", "SHA-512-256":
	default:
		return nil, fmt.Errorf("algorithm %q", cut(c.Algorithm))
	}
	var qop []string
	for _, q := range c.QOP { // the library leaves the spaces of a list in it
		if q = strings.ToLower(strings.TrimSpace(q)); q != "" {
			qop = append(qop, q)
		}
	}
	if len(qop) > 0 && !slices.Contains(qop, "auth") {
		return nil, fmt.Errorf("qop %q", cut(strings.Join(qop, ",")))
	}
	c.QOP = qop
	return c, nil
}

// nextNonce returns the nonce that an answer names for the next request, "" for none.
func nextNonce(res *sip.Response, proxy bool) string {
	h := res.GetHeader(infoHeader(proxy))
	if h == nil || len(h.Value()) > maxChallenge {
		return ""
	}
	next := param(h.Value(), "nextnonce")
	if !repeatable(next) {
		return ""
	}
	return next
}

// repeatable returns whether a value goes out in credentials as it came: the library quotes
// like Go does, which is SIP's way for what can be printed alone.
func repeatable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) })
}

// cut bounds what goes from outside into a message for people.
func cut(s string) string {
	if len(s) > 64 {
		s = s[:64]
	}
	return strings.ToValidUTF8(s, "?")
}

// eachParam calls f with the parameters of a list such as a challenge's, their values still
// quoted, until f returns false. A piece without "=" is all value.
func eachParam(s string, f func(name, value string) bool) {
	for s != "" {
		end, quoted := 0, false
		for ; end < len(s) && (quoted || s[end] != ','); end++ {
			switch {
			case s[end] == '"':
				quoted = !quoted
			case s[end] == '\\' && quoted:
				end++
			}
		}
		end = min(end, len(s))
		name, value, ok := strings.Cut(s[:end], "=")
		if !ok {
			name, value = "", name
		}
		if !f(strings.TrimSpace(name), strings.TrimSpace(value)) {
			return
		}
		s = strings.TrimPrefix(s[end:], ",")
	}
}

// param returns a parameter of a list, "" if it has none.
func param(s, name string) (found string) {
	eachParam(s, func(n, value string) bool {
		if !strings.EqualFold(n, name) {
			return true
		}
		if found = value; strings.HasPrefix(value, `"`) {
			found = unquote(value)
		}
		return false
	})
	return found
}

// unquote returns what a quoted-string says (RFC 3261 section 25.1).
func unquote(s string) string {
	var b strings.Builder
	s = strings.TrimSuffix(strings.TrimPrefix(s, `"`), `"`)
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
