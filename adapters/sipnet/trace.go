package sipnet

import (
	"context"
	"net/netip"
	"time"
)

// Traced is one message that went over the wire, for people to look at. Credentials are
// taken out of it.
type Traced struct {
	Time      time.Time
	Sent      bool // by us; else received
	Transport string
	Local     netip.AddrPort
	Remote    netip.AddrPort
	Message   string
}

type traceKey struct{}

// WithTrace returns a context under which [Client.Do] tells f of every message that it
// sends and receives, retransmissions included. f must be quick.
func WithTrace(ctx context.Context, f func(Traced)) context.Context {
	return context.WithValue(ctx, traceKey{}, f)
}
