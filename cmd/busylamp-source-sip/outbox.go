package main

import (
	"context"
	"sync"

	"github.com/busylamp/busylamp/plugin"
)

// batch is how many statements go to the host at a time.
const batch = 256

// outbox holds what the host is to hear while that is busy. Of a presentity the last word
// alone counts, so that it is never longer than there are presentities; and the watcher, which
// has to answer NOTIFYs in time, never waits.
type outbox struct {
	mu            sync.Mutex
	claims        map[string]plugin.Claim
	subscriptions map[string]plugin.Subscription
	claimed       []string // in the order in which they came; a name of none of claims is skipped
	subscribed    []string
	connector     *plugin.Connector
	stopped       bool
	wake          chan struct{}
}

func newOutbox() *outbox {
	return &outbox{claims: map[string]plugin.Claim{}, subscriptions: map[string]plugin.Subscription{}, wake: make(chan struct{}, 1)}
}

func (o *outbox) claim(c plugin.Claim) {
	o.put(func() {
		if _, ok := o.claims[c.Presentity]; !ok {
			o.claimed = append(o.claimed, c.Presentity)
		}
		o.claims[c.Presentity] = c
	})
}

func (o *outbox) subscription(s plugin.Subscription) {
	o.put(func() {
		if _, ok := o.subscriptions[s.Presentity]; !ok {
			o.subscribed = append(o.subscribed, s.Presentity)
		}
		o.subscriptions[s.Presentity] = s
	})
}

func (o *outbox) connect(c plugin.Connector) { o.put(func() { o.connector = &c }) }

// forget drops what is not said yet of somebody who is watched no more.
func (o *outbox) forget(presentity string) {
	o.put(func() {
		delete(o.claims, presentity)
		delete(o.subscriptions, presentity)
	})
}

// stop drops everything, now and from now on: the host has heard enough.
func (o *outbox) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stopped = true
	clear(o.claims)
	clear(o.subscriptions)
	o.claimed, o.subscribed, o.connector = nil, nil, nil
}

func (o *outbox) put(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopped {
		return
	}
	f()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// run speaks to the host until ctx ends: of the connector first, which says what the rest is
// worth, and of a subscription before its claim.
func (o *outbox) run(ctx context.Context, host plugin.Host) {
	for {
		connector, subscriptions, claims := o.take()
		if connector != nil {
			host.Connector(*connector)
		}
		if len(subscriptions) > 0 {
			host.Subscription(subscriptions...)
		}
		if len(claims) > 0 {
			host.Claim(claims...)
		}
		if len(subscriptions)+len(claims) > 0 && ctx.Err() == nil {
			continue
		}
		select {
		case <-o.wake:
		case <-ctx.Done():
			return
		}
	}
}

func (o *outbox) take() (connector *plugin.Connector, subscriptions []plugin.Subscription, claims []plugin.Claim) {
	o.mu.Lock()
	defer o.mu.Unlock()
	connector, o.connector = o.connector, nil
	subscriptions, o.subscribed = drain(o.subscriptions, o.subscribed)
	claims, o.claimed = drain(o.claims, o.claimed)
	return connector, subscriptions, claims
}

// drain takes the first of what waits.
func drain[T any](waiting map[string]T, names []string) ([]T, []string) {
	var out []T
	for len(names) > 0 && len(out) < batch {
		if v, ok := waiting[names[0]]; ok {
			out = append(out, v)
			delete(waiting, names[0])
		}
		names = names[1:]
	}
	return out, names
}
