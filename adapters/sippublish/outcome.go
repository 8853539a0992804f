package sippublish

import (
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp"
)

// Limits of what a server may say.
const (
	maxTag     = 256 // bytes of an entity-tag
	maxReason  = 200 // bytes of a reason that are kept
	maxExpires = 1<<31 - 1
)

// outcome says what an answer means. SIP's status codes end here.
func outcome(res *sip.Response) busylamp.Outcome {
	o := busylamp.Outcome{Code: res.StatusCode, Reason: cut(res.Reason, maxReason)}
	switch c := res.StatusCode; {
	case c >= 200 && c < 300:
		o.Result = busylamp.Accepted
		o.Tag = entityTag(res)
		o.Expires = expires(res)
	case c == 412: // Conditional Request Failed (RFC 3903 section 11.2.1)
		o.Result = busylamp.Gone
	case c == 423: // Interval Too Brief
		o.Result = busylamp.Refused
		if h := res.GetHeader("Min-Expires"); h != nil {
			o.Reason = cut(o.Reason+": the server wants an expires of "+h.Value()+" s at least", maxReason)
		}
	case c == 408, c >= 500 && c < 600:
		o.Result = busylamp.Failed
	default:
		o.Result = busylamp.Refused
	}
	return o
}

// failed is the outcome of a request without an answer.
func failed(err error) busylamp.Outcome {
	return busylamp.Outcome{Result: busylamp.Unavailable, Reason: cut(err.Error(), maxReason)}
}

// entityTag returns the answer's SIP-ETag, "" if there is none that we could send back: it
// must be one token (RFC 3903 section 11.3.1).
func entityTag(res *sip.Response) string {
	h := res.GetHeader("SIP-ETag")
	if h == nil {
		return ""
	}
	tag := strings.TrimSpace(h.Value())
	if tag == "" || len(tag) > maxTag {
		return ""
	}
	for i := range len(tag) {
		if c := tag[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return ""
		}
	}
	return tag
}

// expires returns the answer's Expires, 0 if it has none that makes sense.
func expires(res *sip.Response) time.Duration {
	h := res.GetHeader("Expires")
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
