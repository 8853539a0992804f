package sipnet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

// hop is one address of the server, and what we know of it. The client's mutex guards it,
// but for the address, which never changes.
type hop struct {
	place
	source string // the address, as a response says where it is from
	way    *path  // nil: none yet
	gone   bool   // DNS knows it no more
	down   bool
	mute   bool          // and says nothing, so that nobody should wait for it
	why    string        // it is down
	since  time.Time     // it is down or up
	pause  time.Duration // from its going down to its being asked whether it is up again
	until  time.Time     // after a 503, not before is it asked or returned to
	wish   time.Time     // until then it asked to be left alone (Retry-After), be it the last one
	vain   int           // times that it did not answer when asked, since a request last tried it
	needs  int           // such times before the next request does
	owes   int           // requests that were sent to it since it last answered one
}

// maxWhy bounds why a hop is down, in bytes: a server says some of it.
const maxWhy = 200

// maxPause is the longest pause of a hop that comes and goes.
const maxPause = 5 * time.Minute

// detach takes the path from a hop and returns it if nobody uses it; otherwise it ends with
// its last request.
func (h *hop) detach() (idle []*path) {
	if h.way != nil && h.way.users == 0 {
		idle = append(idle, h.way)
	}
	h.way = nil
	return idle
}

// learn takes what DNS says. A hop is known by its address and keeps what is known of it.
func (c *Client) learn(places []place) {
	c.mu.Lock()
	var idle []*path
	defer func() {
		c.mu.Unlock()
		closeAll(idle)
	}()
	old := c.hops
	c.hops = nil
	for _, p := range places {
		i := slices.IndexFunc(old, func(h *hop) bool { return h.addr == p.addr })
		if i < 0 {
			c.hops = append(c.hops, &hop{place: p, source: p.addr.String(), since: time.Now()})
		} else {
			old[i].name, old[i].priority = p.name, p.priority
			c.hops = append(c.hops, old[i])
		}
	}
	for _, h := range old {
		if h.gone = !slices.Contains(c.hops, h); h.gone {
			if h.down && h.way != nil {
				h.way.doom(fmt.Errorf("%s is no address of the server any more", h.addr))
			}
			idle = append(idle, h.detach()...)
		}
	}
	c.order(old)
	c.review()
}

// order sorts by priority. Within one, the order is DNS's, which shuffles it by weight, but
// where our publications are does not move about with that: the hop that was preferred
// stays the first, then the one in use.
func (c *Client) order(old []*hop) {
	rank := func(h *hop) int {
		switch {
		case len(old) > 0 && h == old[0]:
			return 0
		case h == c.using:
			return 1
		default:
			return 2
		}
	}
	slices.SortStableFunc(c.hops, func(a, b *hop) int {
		if a.priority != b.priority {
			return int(a.priority) - int(b.priority)
		}
		return rank(a) - rank(b)
	})
}

// choose returns the hop for a request that has been to some already, nil if there is none
// left: the hop in use, or the best one that is up, or if none is, the best one all the
// same, unless it asked to be left alone. It is never left but for a better one.
func (c *Client) choose(tried []*hop) *hop {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if h := c.trial(now); h != nil && len(tried) == 0 {
		h.vain, h.needs = 0, min(2*h.needs, mostVain)
		return h.owe()
	}
	fresh := func(h *hop) bool { return !slices.Contains(tried, h) && !c.spares(h, now) }
	if u := c.using; u != nil && !u.down && fresh(u) {
		return u.owe()
	}
	for _, up := range []bool{true, false} {
		for _, h := range c.hops {
			if h.down != up && fresh(h) {
				return h.owe()
			}
		}
	}
	return nil
}

// owe counts a request in.
func (h *hop) owe() *hop {
	h.owes++
	return h
}

// review settles which hop is in use and, if that one is up, sends on those who wait at
// hops that are down. It starts the probing when there is something to probe. It is called
// after every change; c.mu is held.
func (c *Client) review() {
	var best *hop
	anyDown := false
	for _, h := range c.hops {
		anyDown = anyDown || h.down
		if best == nil && !h.down {
			best = h
		}
	}
	old := c.using
	stays := best != nil && best != c.hops[0] && old != nil && !old.gone && !old.down && old.priority == best.priority
	switch {
	case best == nil:
		c.using = nil
	case !stays:
		c.using = best
	}
	if c.using != nil {
		for _, h := range c.hops {
			if h.mute && h.way != nil {
				h.way.doom(errors.New(h.why))
			}
		}
	}
	if anyDown && len(c.hops) > 1 && !c.probing && !c.closed {
		c.probing = true
		c.busy.Go(c.probe)
	}
}

// judge takes how a request ended at a hop, and says whether that is the end of it.
func (c *Client) judge(ctx context.Context, h *hop, res *sip.Response, err error) bool {
	switch {
	case res != nil && res.StatusCode == sip.StatusServiceUnavailable:
		c.fellBusy(h, res)
		return false
	case res != nil:
		c.rose(h, true)
		return true
	case ctx.Err() != nil || c.life.Err() != nil:
		return true
	}
	bad, isFault := errors.AsType[fault](err)
	if isFault {
		c.fell(h, bad.Error(), 0, true)
	}
	return !isFault
}

// quiet takes it that nothing has been heard on a path for most of what counts as silence,
// or for all of it.
func (c *Client) quiet(h *hop, way *path, silent bool) {
	c.mu.Lock()
	current := h.way == way && !c.closed
	asks := current && !silent && !h.down && len(c.hops) > 1 && h.owes <= mostOwed
	if asks {
		way.users++
		c.busy.Add(1)
	}
	c.mu.Unlock()
	switch {
	case asks:
		defer c.busy.Done()
		c.ask(h, way)
	case current && silent:
		c.fell(h, way.errSilence().Error(), 0, true)
	}
}

// fellBusy takes a 503.
func (c *Client) fellBusy(h *hop, res *sip.Response) {
	wait := RetryAfter(res)
	why := "503 " + res.Reason
	if wait > 0 {
		why += fmt.Sprintf(", to be asked again in %v", wait)
	}
	c.fell(h, why, wait, false)
}

// fell notes that a hop is down, and for how long it wants to be left alone. Of one that
// talks (503) those who wait for its answer still get it.
func (c *Client) fell(h *hop, why string, wait time.Duration, mute bool) {
	why = strings.ToValidUTF8(why[:min(len(why), maxWhy)], "?")
	if next, told := c.noteFall(h, why, wait, mute); told {
		c.log.Warn("a server is left", "server", c.cfg.Server, "address", h.addr, "why", why, "next", next)
	}
}

// noteFall returns where requests go now, and whether that is worth telling.
func (c *Client) noteFall(h *hop, why string, wait time.Duration, mute bool) (next string, told bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if told = !h.down && !h.gone && len(c.hops) > 1; !h.down {
		h.pause = c.nextPause(h, now)
		h.down, h.since, h.mute, h.why = true, now, mute, why
		h.vain, h.needs = 0, firstVain
	} else if mute || !h.mute {
		h.mute, h.why = mute, why
	}
	if wait > 0 {
		h.wish = now.Add(wait)
	}
	if !mute {
		h.owes = 0
		// Others wait for answers that it will still give: they do not say that it is well again.
		if h.until = now.Add(h.pause - c.pace.probeEvery/2); h.until.Before(h.wish) {
			h.until = h.wish
		}
	}
	c.review()
	if c.using == nil {
		return "none that is up", told
	}
	return c.using.addr.String(), told
}

// nextPause is how long a hop that goes down now is left alone: the longer, the more often
// it has come and gone of late, since each time costs requests.
func (c *Client) nextPause(h *hop, now time.Time) time.Duration {
	if h.pause > 0 && now.Sub(h.since) < 2*h.pause+c.pace.probeEvery {
		return min(2*h.pause, maxPause)
	}
	return c.pace.probeEvery
}

// rose notes that a hop has answered: a request, or else but OPTIONS.
func (c *Client) rose(h *hop, request bool) {
	if down, used, told := c.noteRise(h, request); told {
		c.log.Info("a server is back", "server", c.cfg.Server, "address", h.addr, "down", down.Round(time.Millisecond), "used", used)
	}
}

// noteRise returns how long it was down, whether requests go to it now, and whether that is
// worth telling.
func (c *Client) noteRise(h *hop, request bool) (down time.Duration, used, told bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if request {
		h.owes = 0
	}
	if !h.down || c.spares(h, now) || now.Before(h.until) && c.using != nil {
		return 0, false, false
	}
	down = now.Sub(h.since)
	h.down, h.mute, h.why, h.since, h.until = false, false, "", now, time.Time{}
	c.review()
	return down, c.using == h, !h.gone && len(c.hops) > 1
}
