package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp/adapters/sipnet"
	"github.com/busylamp/busylamp/plugin"
)

// answer is how a SUBSCRIBE ended.
type answer struct {
	dialog     string // the Call-ID that it was of
	code       int    // 0: there was no answer
	reason     string
	tag        string // the notifier's
	contact    string
	routes     []string
	expires    time.Duration // 0: not said
	minExpires time.Duration
	retryAfter time.Duration
	cseq       uint32         // that was sent last
	local      netip.AddrPort // that it left by
}

// readAnswer takes what became of a request.
func readAnswer(req *sip.Request, res *sip.Response, err error) answer {
	a := answer{dialog: req.CallID().Value(), cseq: req.CSeq().SeqNo}
	if ip, ok := netip.AddrFromSlice(req.Laddr.IP); ok {
		a.local = netip.AddrPortFrom(ip.Unmap(), uint16(req.Laddr.Port))
	}
	if err != nil {
		a.reason = cut(err.Error())
		return a
	}
	a.code, a.reason, a.retryAfter = res.StatusCode, cut(res.Reason), sipnet.RetryAfter(res)
	if to := res.To(); to != nil {
		a.tag, _ = to.Params.Get("tag")
	}
	a.contact, a.routes = contactOf(res.Contact()), routeSet(res.GetHeaders("Record-Route"), true)
	value := func(name string) time.Duration {
		if h := res.GetHeader(name); h != nil {
			d, _ := seconds(h.Value())
			return d
		}
		return 0
	}
	a.expires, a.minExpires = value("Expires"), value("Min-Expires")
	return a
}

// refusal is what an answer that grants nothing means for the presentity. README.md has the
// same as a table.
func refusal(p *eventPackage, a answer) verdict {
	v := verdict{state: plugin.Failed, reason: strings.TrimSpace(fmt.Sprintf("%d %s", a.code, a.reason)), retry: a.retryAfter}
	switch a.code {
	case 0:
		v.reason = a.reason
	case 401, 403, 407, 603:
		v.state = plugin.AccessDenied
	case 404, 410, 604:
		v.state = plugin.NotFound
	case 423:
		v.reason += ": no Min-Expires that can be met: a larger expires may do"
	case 489:
		v.reason += ": the server does not support the event package " + p.name
		v.never = true
	case 405, 501:
		v.reason += ": the server does not support SUBSCRIBE"
	case 406, 415:
		v.reason += ": the server has none of the formats " + p.acceptable(false)
	}
	if a.code >= 300 && a.code < 400 && a.contact != "" {
		v.reason += ": the server redirects to " + cut(a.contact) + ", which is not followed: configure it as server"
	}
	return v
}

// maxText bounds what goes from outside into a text for people, in bytes.
const maxText = 200

func cut(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
