package pluginhost

import (
	"sync"

	"github.com/busylamp/busylamp"
	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// queue holds what a plugin is to be asked until it has taken it. There is a bound to it:
// whoever takes nothing does not work.
type queue struct {
	some chan struct{} // holds one when there is something to take

	mu     sync.Mutex
	works  []busylamp.WatchWork
	size   int // presentities
	closed bool
}

func newQueue() *queue { return &queue{some: make(chan struct{}, 1)} }

// put returns false if there is no more room. It never blocks.
func (q *queue) put(w busylamp.WatchWork) bool {
	n := len(w.Watch) + len(w.Unwatch)
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed || n == 0:
		return true
	case q.size+n > maxWaiting:
		return false
	}
	q.works, q.size = append(q.works, w), q.size+n
	q.wake()
	return true
}

func (q *queue) wake() {
	select {
	case q.some <- struct{}{}:
	default:
	}
}

// close forgets what waits. The last take is told of it.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.works, q.size, q.closed = nil, 0, true
	q.wake()
}

// take returns the next message, nil for none as yet, and whether the queue is closed. One
// request makes one message, unless it is too long for that: the core counts the requests.
func (q *queue) take() (m *pluginv1.HostMessage, asked int, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.works) == 0 {
		return nil, 0, q.closed
	}
	w := &q.works[0]
	m = &pluginv1.HostMessage{}
	// Whom to forget comes first: in one message a presentity is either or.
	n := min(len(w.Unwatch), maxAsked)
	for _, who := range w.Unwatch[:n] {
		m.Unwatch = append(m.Unwatch, string(who))
	}
	w.Unwatch = w.Unwatch[n:]
	if n == 0 {
		n = min(len(w.Watch), maxBatch)
		for _, t := range w.Watch[:n] {
			m.Watch = append(m.Watch, &pluginv1.Target{Presentity: string(t.Presentity), Endpoint: uint32(t.Endpoint), Upn: t.UPN})
		}
		w.Watch, asked = w.Watch[n:], n
	}
	q.size -= n
	if len(w.Watch)+len(w.Unwatch) == 0 {
		q.works[0] = busylamp.WatchWork{}
		q.works = q.works[1:]
	}
	if len(q.works) > 0 {
		q.wake()
	}
	return m, asked, false
}
