package sipnet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/emiago/sipgo/sip"
)

// A server need not answer OPTIONS, and would never be returned to. So after this many
// probes in vain (a minute), and then ever more up to mostVain (five), a request tries it.
const firstVain, mostVain = 12, 60

// mostOwed is how many requests in a row a server may leave unanswered and be taken for well
// because it answers OPTIONS. With more of them it is its service that is dead.
const mostOwed = 2

// probe asks the hops that are down whether they are up again, beside the requests, until
// none is. All of them are asked, not only the better ones: one that is down must not be
// what is left when the next one goes down.
func (c *Client) probe() {
	tick := time.NewTicker(c.pace.probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.life.Done():
			return
		}
		c.mu.Lock()
		var down []*hop
		for _, h := range c.hops {
			if h.down {
				down = append(down, h)
			}
		}
		if len(down) == 0 || len(c.hops) == 1 {
			c.probing = false
			c.mu.Unlock()
			return
		}
		now := time.Now()
		down = slices.DeleteFunc(down, func(h *hop) bool {
			return now.Before(h.until) || now.Sub(h.since) < h.pause-c.pace.probeEvery/2
		})
		c.mu.Unlock()
		for _, h := range down {
			c.busy.Go(func() { c.knock(h) })
		}
	}
}

// knock asks one hop. Any final answer will do but for a 503, with which it would be left
// again at once.
func (c *Client) knock(h *hop) {
	ctx, cancel := context.WithCancel(c.life)
	defer cancel()
	// Not a deadline: by that, a connection would be given up on which others may still wait.
	defer time.AfterFunc(c.pace.probeTime, cancel).Stop()
	res, err := c.over(ctx, h, c.options())
	switch {
	case res != nil && res.StatusCode == sip.StatusServiceUnavailable:
		c.fellBusy(h, res)
	case err == nil:
		c.rose(h, false)
	default:
		c.forget(h, err)
	}
}

// forget ends an idle path to a hop that did not answer: what is dead does not come to life
// again, and the next request has a new one. A hop that cannot be connected to is dead for
// requests, too; any other may be one that answers those alone.
func (c *Client) forget(h *hop, err error) {
	c.mu.Lock()
	if !errors.Is(err, errConnect) {
		h.vain++
	}
	var idle []*path
	if h.down && h.way != nil && h.way.users == 0 {
		idle = h.detach()
	}
	c.mu.Unlock()
	closeAll(idle)
}

// trial returns the hop that the next request is to try because it would be returned to but
// does not answer OPTIONS, nil for none. c.mu is held.
func (c *Client) trial(now time.Time) *hop {
	for i, h := range c.hops {
		if c.using == nil || h == c.using || i > 0 && h.priority == c.using.priority {
			return nil
		}
		if h.down && h.vain >= h.needs && !now.Before(h.until) {
			return h
		}
	}
	return nil
}

// ask gives a hop that was not heard of late the rest of what counts as silence to answer
// OPTIONS. If it does, that was a word: it has nothing to say to some request, and the next
// hop would not have either. It leaves the path, which somebody entered.
func (c *Client) ask(h *hop, way *path) {
	defer c.leave(h, way)
	ctx, cancel := context.WithCancel(c.life)
	defer cancel()
	defer time.AfterFunc(c.pace.silence/askLast, cancel).Stop()
	way.exchange(ctx, c.options())
}

// options is a request that does nothing but be answered (RFC 3261 section 11).
func (c *Client) options() *Draft {
	uri := sip.Uri{Scheme: "sip", Host: c.cfg.Server.Host}
	d := &Draft{Method: sip.OPTIONS, URI: uri.String(), Domain: uri.Host, Number: 1, Tail: []byte("Max-Forwards: 70\r\n")}
	d.Head = fmt.Appendf(nil, "From: <%s>;tag=%s\r\nTo: <%[1]s>\r\nCall-ID: %[3]s\r\n", d.URI, AppendToken(nil, 16), AppendToken(nil, 24))
	return d
}
