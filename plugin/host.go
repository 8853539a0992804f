package plugin

import (
	"context"
	"log/slog"
	"sync"

	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

const (
	// perMessage bounds a message's parts. At its longest a part is 3 KiB: a full message is
	// far below MaxMessage.
	perMessage = 256
	// waiting is how many messages wait for the host before those that say more wait as well.
	waiting = 16
)

// host is the [Host] of one Run.
type host struct {
	ctx       context.Context
	about     *about
	endpoints int
	in        chan Request // received, not yet taken over for requests
	requests  chan Request
	out       chan *pluginv1.SourceMessage
	finished  chan struct{} // closed when Run has returned: what waits is sent, and no more
	mistakes  limiter

	mu      sync.Mutex
	watched map[string]struct{} // presentities; nobody is in it if the source is Unasked
}

func newHost(ctx context.Context, a *about, endpoints int) *host {
	return &host{
		ctx: ctx, about: a, endpoints: endpoints,
		in: make(chan Request), requests: make(chan Request),
		out: make(chan *pluginv1.SourceMessage, waiting), finished: make(chan struct{}),
		watched: map[string]struct{}{},
	}
}

// start moves messages both ways until ctx ends; cancel ends it. What it returns is closed
// when nothing more is sent.
func (h *host) start(stream pluginv1.Source_RunServer, cancel context.CancelFunc) <-chan struct{} {
	go h.receive(stream, cancel)
	go h.hand()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if err := h.send(stream); err != nil {
			if !closed(err) && h.ctx.Err() == nil {
				slog.Error("source: the host does not take what the source says", "error", err)
			}
			cancel()
		}
	}()
	return sent
}

// receive reads what the host asks until the stream ends, and with it the source's work.
func (h *host) receive(stream pluginv1.Source_RunServer, cancel context.CancelFunc) {
	defer cancel()
	for {
		m, err := stream.Recv()
		if err != nil {
			if !closed(err) && h.ctx.Err() == nil {
				slog.Error("source: the host's stream broke", "error", err)
			}
			return
		}
		r, ok := h.request(m)
		if !ok {
			continue
		}
		select {
		case h.in <- r:
		case <-h.ctx.Done():
			return
		}
	}
}

// request makes a Request of a message, if anything in it is for the source.
func (h *host) request(m *pluginv1.HostMessage) (Request, bool) {
	var r Request
	var strangers []Subscription
	h.mu.Lock()
	for _, t := range m.GetWatch() {
		switch p := t.GetPresentity(); {
		case p == "":
		case !h.about.serve(p):
			strangers = append(strangers, Subscription{Presentity: p, State: NotFound, Reason: "the source does not serve such presentities"})
		default:
			endpoint := int(t.GetEndpoint())
			if endpoint >= h.endpoints {
				endpoint = 0
			}
			h.watched[p] = struct{}{}
			r.Watch = append(r.Watch, Target{Presentity: p, Endpoint: endpoint, UPN: t.GetUpn()})
		}
	}
	for _, p := range m.GetUnwatch() {
		if _, ok := h.watched[p]; ok {
			delete(h.watched, p)
			r.Unwatch = append(r.Unwatch, p)
		}
	}
	h.mu.Unlock()
	for _, s := range strangers {
		if valid(s.Presentity) {
			h.put(&pluginv1.SourceMessage{Subscriptions: []*pluginv1.Subscription{subscriptionOut(s)}})
		}
	}
	return r, len(r.Watch)+len(r.Unwatch) > 0
}

// hand gives requests to the source until ctx ends, and then closes their channel.
func (h *host) hand() {
	defer close(h.requests)
	for {
		select {
		case r := <-h.in:
			select {
			case h.requests <- r:
			case <-h.ctx.Done():
				return
			}
		case <-h.ctx.Done():
			return
		}
	}
}

// send sends what is put, as many parts in a message as are there, until Run has returned
// or ctx ends.
func (h *host) send(stream pluginv1.Source_RunServer) error {
	var next *pluginv1.SourceMessage
	for {
		m := next
		next = nil
		if m == nil {
			select {
			case m = <-h.out:
			default:
				select {
				case m = <-h.out:
				case <-h.finished:
					return nil
				case <-h.ctx.Done():
					return nil
				}
			}
		}
		for next == nil {
			select {
			case n := <-h.out:
				if !merge(m, n) {
					next = n
				}
				continue
			default:
			}
			break
		}
		if err := stream.Send(m); err != nil {
			return err
		}
	}
}

// merge adds a message to one before it. The host takes a message's connector first, then
// its subscriptions, then its claims: what was said in another order stays apart.
func merge(into, m *pluginv1.SourceMessage) bool {
	switch {
	case len(into.Claims)+len(into.Subscriptions)+len(m.Claims)+len(m.Subscriptions) > perMessage,
		m.Connector != nil,
		len(m.Subscriptions) > 0 && len(into.Claims) > 0:
		return false
	}
	into.Subscriptions = append(into.Subscriptions, m.Subscriptions...)
	into.Claims = append(into.Claims, m.Claims...)
	return true
}

// put hands a message over to be sent. It waits while the host is busy.
func (h *host) put(m *pluginv1.SourceMessage) {
	if h.ctx.Err() != nil {
		return
	}
	select {
	case h.out <- m:
	case <-h.finished:
	case <-h.ctx.Done():
	}
}

// finish says that Run has returned.
func (h *host) finish() { close(h.finished) }

// speaks tells whether the source may speak of a presentity now: it is watched, or need not be.
func (h *host) speaks(presentity string) bool {
	if h.about.Unasked {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.watched[presentity]
	return ok
}

// Requests is part of [Host].
func (h *host) Requests() <-chan Request { return h.requests }

// Claim is part of [Host].
func (h *host) Claim(claims ...Claim) {
	m := &pluginv1.SourceMessage{}
	for _, c := range claims {
		if !h.mayClaim(c) {
			continue
		}
		if m.Claims = append(m.Claims, claimOut(c)); len(m.Claims) == perMessage {
			h.put(m)
			m = &pluginv1.SourceMessage{}
		}
	}
	if len(m.Claims) > 0 {
		h.put(m)
	}
}

// Subscription is part of [Host].
func (h *host) Subscription(subscriptions ...Subscription) {
	m := &pluginv1.SourceMessage{}
	for _, s := range subscriptions {
		if !h.maySubscribe(s) {
			continue
		}
		if m.Subscriptions = append(m.Subscriptions, subscriptionOut(s)); len(m.Subscriptions) == perMessage {
			h.put(m)
			m = &pluginv1.SourceMessage{}
		}
	}
	if len(m.Subscriptions) > 0 {
		h.put(m)
	}
}

// Connector is part of [Host].
func (h *host) Connector(c Connector) {
	if c.State < Up || c.State > CredentialsNotFound {
		h.mistake("a connector's state is none of the contract's", "state", c.State)
		return
	}
	h.put(&pluginv1.SourceMessage{Connector: connectorOut(c)})
}
