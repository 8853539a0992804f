package sippublish

import (
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/sipnet"
)

// Limits of what a server may say.
const (
	maxTag     = 256 // bytes of an entity-tag
	maxReason  = 200 // bytes of a reason that are kept
	maxExpires = 1<<31 - 1
)

// outcome says what an answer to a PUBLISH means; tagged is whether that had a
// SIP-If-Match. SIP's status codes end here.
func outcome(res *sip.Response, tagged bool) busylamp.Outcome {
	o := busylamp.Outcome{Result: result(res.StatusCode, tagged), Code: res.StatusCode, Reason: cut(res.Reason, maxReason)}
	switch {
	case o.Result == busylamp.Accepted:
		o.Tag = entityTag(res)
		o.Expires = seconds(res, "Expires")
		return o
	case o.Result == busylamp.TooBrief:
		o.MinExpires = seconds(res, "Min-Expires")
	case o.Code >= 300 && o.Code < 400:
		if c := res.GetHeader("Contact"); c != nil {
			o.Reason = cut(o.Reason+": the server redirects to "+c.Value()+", which is not followed: configure it as server", maxReason)
		}
	}
	o.RetryAfter = sipnet.RetryAfter(res)
	return o
}

// result is the table of the status codes. What is in none of its rows is as good as the
// hundred's x00 (RFC 3261 section 8.1.3.2).
func result(code int, tagged bool) busylamp.Result {
	switch code {
	case 412: // Conditional Request Failed (RFC 3903 section 11.2.1)
		return busylamp.Gone
	case 423: // Interval Too Brief
		return busylamp.TooBrief
	case 503:
		return busylamp.Unavailable
	case 408, // Request Timeout
		430, // Flow Failed: an edge proxy has lost the way (RFC 5626 section 11.5)
		480, // Temporarily Unavailable
		486, // Busy Here
		487, // Request Terminated
		491: // Request Pending: an earlier request is not through yet
		return busylamp.Failed
	case 400, 481:
		// Servers say so of an entity-tag that they cannot read, or do not know, too.
		if tagged {
			return busylamp.Failed
		}
		return busylamp.Refused
	case 501, 505, 513: // no method, no version, too large: it will be so next time
		return busylamp.Refused
	}
	switch code / 100 {
	case 2:
		return busylamp.Accepted
	case 5:
		return busylamp.Failed
	}
	return busylamp.Refused
}

// failed is the outcome of a request without an answer.
func failed(err error) busylamp.Outcome {
	return busylamp.Outcome{Result: busylamp.Unavailable, Reason: cut(err.Error(), maxReason)}
}

// entityTag returns the answer's SIP-ETag, "" if there is none that could be sent back. It
// should be one token (RFC 3903 section 11.3.1), but is the server's own to read: what is not
// is repeated as it came, if only it stays one word on its line.
func entityTag(res *sip.Response) string {
	h := res.GetHeader("SIP-ETag")
	if h == nil {
		return ""
	}
	tag := strings.TrimSpace(h.Value())
	if len(tag) > maxTag || strings.ContainsFunc(tag, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return ""
	}
	return tag
}

// seconds returns a header that is a number of them (Expires, Min-Expires), 0 if there is
// none that makes sense.
func seconds(res *sip.Response, name string) time.Duration {
	h := res.GetHeader(name)
	if h == nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(h.Value()), 10, 32)
	if err != nil || n > maxExpires {
		return 0
	}
	return time.Duration(n) * time.Second
}

func cut(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "?")
}
