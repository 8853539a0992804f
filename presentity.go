package busylamp

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxURI is the longest URI, in bytes, that can be a presentity. The proxy's snippet
// cuts URIs one byte above it, so that a cut one is never taken for a shorter one.
const MaxURI = 255

// Presentity is the canonical URI of somebody whose presence is told (RFC 3856):
// "sip:user@host", the host in lower case, no port, password, parameters or headers,
// and only those characters escaped in the user part that must be (RFC 3261 section 25.1);
// or "tel:+digits", a global number without visual separators (RFC 3966).
type Presentity string

// Domain returns the host part, "" for a number.
func (p Presentity) Domain() string {
	_, host, _ := strings.Cut(string(p), "@")
	return host
}

// User returns the user part, still escaped; a number with its "+".
func (p Presentity) User() string {
	_, rest, _ := strings.Cut(string(p), ":")
	user, _, _ := strings.Cut(rest, "@")
	return user
}

// IsNumber tells a telephone number from somebody at a host.
func (p Presentity) IsNumber() bool { return strings.HasPrefix(string(p), "tel:") }

// ParsePresentity makes a presentity of a SIP or SIPS URI (RFC 3261 section 19.1), or of a
// tel URI with a global number. The URI comes from strangers: whatever is not plainly a user
// at a host or a number is an error, never a guess. What is returned may be a part of the URI.
func ParsePresentity(uri string) (Presentity, error) {
	if len(uri) > MaxURI {
		return "", fmt.Errorf("URI of %d bytes: at most %d can be a presentity", len(uri), MaxURI)
	}
	rest, ok := cutScheme(uri)
	if number, isTel := cutTel(uri); isTel {
		return parseNumber(uri, number)
	}
	if !ok {
		return "", fmt.Errorf("URI %q: not a sip:, sips: or tel: URI", uri)
	}
	user, host, ok := strings.Cut(rest, "@")
	user, _, _ = strings.Cut(user, ":") // a password
	if !ok || user == "" {
		return "", fmt.Errorf("URI %q: no user part", uri)
	}
	// The RFC allows no second "@". A parser that takes the first and one that takes
	// the last would see two different users in such a URI.
	if strings.Contains(host, "@") {
		return "", fmt.Errorf("URI %q: more than one @", uri)
	}
	if host, ok = canonicalHost(host); !ok {
		return "", fmt.Errorf("URI %q: not a host name or address", uri)
	}
	user, err := canonicalUser(user)
	if err != nil {
		return "", fmt.Errorf("URI %q: %w", uri, err)
	}
	if as, ok := prefix(uri, user, host); ok {
		return as, nil
	}
	p := Presentity("sip:" + user + "@" + host)
	if len(p) > MaxURI {
		return "", fmt.Errorf("URI %q: over %d bytes when escaped", uri, MaxURI)
	}
	return p, nil
}

// prefix returns the beginning of a URI if it is the canonical form already, as it mostly is.
func prefix(uri, user, host string) (Presentity, bool) {
	const scheme = "sip:"
	at := len(scheme) + len(user)
	n := at + 1 + len(host)
	if n > len(uri) || uri[:len(scheme)] != scheme || uri[len(scheme):at] != user || uri[at] != '@' || uri[at+1:n] != host {
		return "", false
	}
	return Presentity(uri[:n]), true
}

func cutScheme(uri string) (rest string, ok bool) {
	scheme, rest, ok := strings.Cut(uri, ":")
	return rest, ok && (strings.EqualFold(scheme, "sip") || strings.EqualFold(scheme, "sips"))
}

func cutTel(uri string) (number string, ok bool) {
	scheme, number, ok := strings.Cut(uri, ":")
	return number, ok && strings.EqualFold(scheme, "tel")
}

// ITU-T E.164 allows 15 digits; fewer than 3 are a country code alone.
const leastDigits, mostDigits = 3, 15

// parseNumber takes a global number (RFC 3966 section 5.1.4); its parameters do not change
// whose it is. A local number (1001;phone-context=...) is an error: it means one telephone
// here and another there.
func parseNumber(uri, number string) (Presentity, error) {
	number, _, _ = strings.Cut(number, ";")
	b := make([]byte, 0, len("tel:+")+mostDigits)
	b = append(b, "tel:"...)
	for i := range len(number) {
		switch c := number[i]; {
		case c == '+' && i == 0, c >= '0' && c <= '9' && i > 0:
			b = append(b, c)
		case strings.IndexByte("-.()", c) >= 0 && i > 0: // visual separators
		default:
			return "", fmt.Errorf("URI %q: not a global number: + and digits", uri)
		}
	}
	if n := len(b) - len("tel:+"); n < leastDigits || n > mostDigits {
		return "", fmt.Errorf("URI %q: %d digits: a global number has %d to %d", uri, max(n, 0), leastDigits, mostDigits)
	}
	return Presentity(b), nil
}

func canonicalHost(s string) (string, bool) {
	if i := strings.IndexAny(s, ";?"); i >= 0 {
		s = s[:i]
	}
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		return strings.ToLower(s[:end+1]), end > 1 && isHost(s[1:end], ":.")
	}
	s, _, _ = strings.Cut(s, ":")
	s = strings.TrimSuffix(s, ".")
	return strings.ToLower(s), isHost(s, "-.")
}

func isHost(s, extra string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && strings.IndexByte(extra, s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// isUser tells the characters that stand unescaped in a user part: unreserved and
// user-unreserved of RFC 3261 section 25.1.
func isUser(c byte) bool {
	return isAlphanumeric(c) || strings.IndexByte("-_.!~*'()&=+$,;?/", c) >= 0
}

var errUser = errors.New("the user part holds bytes that no URI can")

// canonicalUser escapes just what must be, so that two spellings of a user are one.
func canonicalUser(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", errUser
	}
	plain := true
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return "", errUser
		}
		plain = plain && isUser(s[i])
	}
	if plain {
		return s, nil
	}
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, 3*len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		escaped := c == '%'
		if escaped {
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return "", errUser
			}
			c = unhex(s[i+1])<<4 | unhex(s[i+2])
			i += 2
		}
		if isUser(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b), nil
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}
