package stack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// agent is what phones and watchers have in common: client transactions over one socket
// to one server.
type agent struct {
	socket *socket
	server netip.AddrPort

	mu      sync.Mutex
	waiting map[string]chan *message // by branch
}

// Timers of RFC 3261 (T1, T2), and the ends of our patience, B for INVITE and F for others.
const (
	t1     = 500 * time.Millisecond
	t2     = 4 * time.Second
	timerB = 64 * time.Second
	timerF = 32 * time.Second
)

var errNoAnswer = errors.New("no answer")

// open binds the agent's socket. Requests that arrive go to onRequest, and responses that
// no transaction waits for to onStray, which may be nil.
func (a *agent) open(server string, onRequest func(*message, netip.AddrPort), onStray func(*message)) (err error) {
	if a.server, err = netip.ParseAddrPort(server); err != nil {
		return err
	}
	a.waiting = make(map[string]chan *message)
	if a.socket, err = openSocket(0); err != nil {
		return err
	}
	go a.socket.serve(func(m *message, from netip.AddrPort) {
		if m.status() == 0 {
			onRequest(m, from)
			return
		}
		a.mu.Lock()
		wait := a.waiting[m.branch()]
		a.mu.Unlock()
		if wait != nil {
			select {
			case wait <- m:
			default: // a repetition
			}
		} else if onStray != nil {
			onStray(m)
		}
	})
	return nil
}

// do sends a request, repeats it as RFC 3261 section 17.1 wants, and returns the final
// response.
func (a *agent) do(ctx context.Context, r request) (*message, error) {
	r.via = a.socket.addr.String()
	wait := make(chan *message, 8)
	a.mu.Lock()
	a.waiting[r.branch] = wait
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.waiting, r.branch)
	}()
	invite := r.method == "INVITE"
	patience := timerF
	if invite {
		patience = timerB
	}
	text, deadline := r.String(), time.Now().Add(patience)
	interval, ringing := t1, false
	again := time.NewTimer(interval)
	defer again.Stop()
	a.socket.send(a.server, text)
	for {
		select {
		case m := <-wait:
			if m.status() >= 200 {
				return m, nil
			}
			ringing = invite
		case <-again.C:
			if time.Now().After(deadline) {
				return nil, fmt.Errorf("%s %s: %w within %v", r.method, r.uri, errNoAnswer, patience)
			}
			if !ringing {
				a.socket.send(a.server, text)
			}
			if interval *= 2; !invite {
				interval = min(interval, t2)
			}
			again.Reset(interval)
		case <-ctx.Done():
			return nil, fmt.Errorf("%s %s: %w", r.method, r.uri, ctx.Err())
		}
	}
}
