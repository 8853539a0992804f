package sipnet

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

// maxRetryAfter bounds what a server may ask for.
const maxRetryAfter = time.Hour

// RetryAfter returns how long the server wants to be left alone (RFC 3261 section 20.33),
// an hour at most, 0 if it does not say. A comment and parameters may follow the number;
// for how long it will then be there (duration) is of no use.
func RetryAfter(res *sip.Response) time.Duration {
	h := res.GetHeader("Retry-After")
	if h == nil {
		return 0
	}
	value := strings.TrimSpace(h.Value())
	rest := strings.TrimLeft(value, "0123456789")
	digits := value[:len(value)-len(rest)]
	if rest = strings.TrimLeft(rest, " \t"); digits == "" || rest != "" && rest[0] != '(' && rest[0] != ';' {
		return 0
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil { // digits alone: it is too large
		return maxRetryAfter
	}
	return min(time.Duration(n)*time.Second, maxRetryAfter)
}

// spares returns whether a hop is to be left alone, as it asked. Where it is the only one,
// that is for those to see to who send: they were told. c.mu is held.
func (c *Client) spares(h *hop, now time.Time) bool {
	return len(c.hops) > 1 && now.Before(h.wish)
}

// soonest returns for how long yet all hops want to be left alone, 0 if one may be asked
// now, and why that one is down which may be asked first.
func (c *Client) soonest() (wait time.Duration, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, h := range c.hops {
		if left := max(time.Until(h.wish), 0); i == 0 || left < wait {
			wait, why = left, h.why
		}
	}
	return wait, why
}

// spared answers a request in the server's stead when all its addresses asked to be left
// alone: nothing is sent to any of them before the first one's time has come.
func (c *Client) spared() *sip.Response {
	wait, why := c.soonest()
	res := sip.NewResponse(sip.StatusServiceUnavailable, "not sent, as no address of the server wants to be asked yet: "+why)
	setRetryAfter(res, max(wait, 1))
	return res
}

// relent makes a 503 that is left speak for all hops: one of them may be asked again sooner
// than the one that was tried last.
func (c *Client) relent(res *sip.Response) {
	if wait, _ := c.soonest(); wait < RetryAfter(res) {
		setRetryAfter(res, wait)
	}
}

// setRetryAfter lets a response ask for a wait, in whole seconds and no shorter; 0 for none.
func setRetryAfter(res *sip.Response, wait time.Duration) {
	for res.RemoveHeader("Retry-After") {
	}
	if wait > 0 {
		res.AppendHeader(sip.NewHeader("Retry-After", fmt.Sprint(int((wait+time.Second-1)/time.Second))))
	}
}
