package stack

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// The faults that a [Middlebox] knows. Those that draw lots do so from a seed.

// Well passes everything on.
func Well() Fault { return Fault{} }

// Down lets nothing through, either way.
func Down() Fault { return Lossy(1, 0) }

// Lossy loses a part of the packets, each way, and doubles every tenth answer of the rest.
func Lossy(part float64, seed uint64) Fault {
	lots := rand.New(rand.NewPCG(seed, 0))
	lost := func() bool { return lots.Float64() < part }
	return Fault{
		request: func(m *message) (answer, on string) {
			if lost() {
				return "", ""
			}
			return "", m.text
		},
		answer: func(m *message) ([]string, time.Duration) {
			switch {
			case lost():
				return nil, 0
			case lots.IntN(10) == 0:
				return []string{m.text, m.text}, 0
			default:
				return []string{m.text}, 0
			}
		},
	}
}

// Slow holds every answer back for so long.
func Slow(d time.Duration) Fault {
	return Fault{answer: func(m *message) ([]string, time.Duration) { return []string{m.text}, d }}
}

// Forgetful answers 412 to every PUBLISH that has an entity-tag, and to half of those that
// have none, which RFC 3903 knows not. The server has the publications all the same.
func Forgetful(seed uint64) Fault {
	lots := rand.New(rand.NewPCG(seed, 0))
	return Fault{request: publishes(func(m *message) string {
		if m.get("sip-if-match") == "" && lots.IntN(2) == 0 {
			return ""
		}
		return m.response("412 Conditional Request Failed", "middlebox", "", "")
	})}
}

// Brief answers 423 to publications that are shorter than the server wants them, which is a
// second more each time that so much time has passed.
func Brief(least time.Duration, every time.Duration) Fault {
	var began time.Time
	return Fault{request: publishes(func(m *message) string {
		if began.IsZero() {
			began = m.at
		}
		least := int(least/time.Second) + int(m.at.Sub(began)/every)
		if asked := m.number("expires"); asked <= 0 || asked >= least {
			return ""
		}
		return m.response("423 Interval Too Brief", "middlebox", fmt.Sprintf("Min-Expires: %d\r\n", least), "")
	})}
}

// Failing answers 500 to every PUBLISH.
func Failing() Fault {
	return Fault{request: publishes(func(m *message) string {
		return m.response("500 Server Internal Error", "middlebox", "", "")
	})}
}

// Overloaded answers 503 to everything and wants to be left alone for so long.
func Overloaded(retryAfter time.Duration) Fault {
	extra := fmt.Sprintf("Retry-After: %d\r\n", int(retryAfter.Seconds()))
	return Fault{request: func(m *message) (answer, on string) {
		return m.response("503 Service Unavailable", "middlebox", extra, ""), ""
	}}
}

// publishes has f answer PUBLISH requests; "" passes them on, as everything else.
func publishes(f func(m *message) string) func(*message) (answer, on string) {
	return func(m *message) (string, string) {
		if m.method() == "PUBLISH" {
			if answer := f(m); answer != "" {
				return answer, ""
			}
		}
		return "", m.text
	}
}

// Bare makes the server one of those that know no entity-tags and have one publication for
// each user: it takes SIP-ETag and Expires from every 200, and writes into each request the
// tag that the user's last one got.
func Bare() Fault {
	tags := make(map[string]string) // by user; a test has some hundreds
	return Fault{
		request: func(m *message) (answer, on string) {
			tag := tags[userOf(m.uri())]
			if m.method() != "PUBLISH" || tag == "" {
				return "", m.text
			}
			return "", strings.Replace(without(m.text, "SIP-If-Match"), "\r\n", "\r\nSIP-If-Match: "+tag+"\r\n", 1)
		},
		answer: func(m *message) ([]string, time.Duration) {
			user := userOf(address(m.get("to")))
			switch {
			case m.method() != "PUBLISH":
			case m.status() == 200 && m.number("expires") > 0:
				tags[user] = m.get("sip-etag")
			default:
				delete(tags, user) // removed, or unknown to the server
			}
			return []string{without(m.text, "SIP-ETag", "Expires")}, 0
		},
	}
}

// WrongCSeq changes the number of every answer's CSeq, or its method.
func WrongCSeq() Fault {
	n := 0
	return Fault{answer: func(m *message) ([]string, time.Duration) {
		number, method, _ := strings.Cut(m.get("cseq"), " ")
		if n++; n%2 == 0 {
			method = "SUBSCRIBE"
		} else {
			number += "7"
		}
		return []string{strings.Replace(m.text, "\r\nCSeq: "+m.get("cseq"), "\r\nCSeq: "+number+" "+method, 1)}, 0
	}}
}

// Garbled sends in the place of every answer what is none: noise, an answer cut short, one
// to somebody else, a request.
func Garbled(seed uint64) Fault {
	lots := rand.New(rand.NewPCG(seed, 0))
	return Fault{answer: func(m *message) ([]string, time.Duration) { return []string{garble(m, lots)}, 0 }}
}

func garble(m *message, lots *rand.Rand) string {
	other := strconv.FormatUint(lots.Uint64(), 36)
	elsewhere := strings.ReplaceAll(m.text, m.branch(), "z9hG4bK"+other)
	switch lots.IntN(6) {
	case 0: // noise
		b := make([]byte, 1+lots.IntN(1400))
		for i := range b {
			b[i] = byte(lots.Uint32())
		}
		return string(b)
	case 1: // cut within its first three lines, before it says what it answers to
		return m.text[:lots.IntN(max(1, strings.Index(m.text, "\r\nCSeq:")))]
	case 2: // another transaction's
		return elsewhere
	case 3: // another call's
		return strings.ReplaceAll(elsewhere, m.get("call-id"), other)
	case 4: // no status line
		return "SIP/2.0 2OO OK" + strings.TrimPrefix(m.text, m.start)
	default: // a request
		return "PUBLISH sip:" + other + "@example.com SIP/2.0" + strings.TrimPrefix(elsewhere, m.start)
	}
}

// without takes headers from a message.
func without(text string, names ...string) string {
	var b strings.Builder
	head, body, _ := strings.Cut(text, "\r\n\r\n")
	for line := range strings.SplitSeq(head, "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		keep := true
		for _, n := range names {
			keep = keep && !strings.EqualFold(strings.TrimSpace(name), n)
		}
		if keep {
			b.WriteString(line + "\r\n")
		}
	}
	return b.String() + "\r\n" + body
}
