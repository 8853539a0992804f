package sipnet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxHops is the most addresses, and the most names of SRV, that are used of an answer.
const maxHops = 32

// place is one address at which the server may be had.
type place struct {
	addr     netip.AddrPort
	name     string // the host's that the address is of: SRV's target, or the server's own name
	priority uint16 // SRV's: lower ones go first
}

// resolver knows a target's places (RFC 3263 section 4.2): SRV's answers by priority and,
// within one, shuffled by weight, each with all its addresses. NAPTR (section 4.1) is not
// asked, since the transport is configured. The first request waits for DNS; afterwards the
// last good answer serves, and is renewed beside the requests, so that neither a slow nor a
// broken DNS holds up or fails any.
type resolver struct {
	target Target
	dns    *net.Resolver
	tempo  tempo
	log    *slog.Logger
	learn  func([]place) // is told of every answer that can be used

	mu     sync.Mutex
	good   []place   // the last good answer
	srv    bool      // it came from SRV
	asked  time.Time // when the last answer came, good or not
	err    error     // what it failed by
	flight *flight   // the question that is out
}

// prompt returns a resolver that ends with its context. Go's own waits some seconds for an
// answer to SRV, whatever becomes of that.
func prompt(r *net.Resolver) *net.Resolver {
	dial := r.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return &net.Resolver{PreferGo: r.PreferGo, StrictErrors: r.StrictErrors, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err == nil {
			context.AfterFunc(ctx, func() { conn.Close() }) // the answer ends it, too
		}
		return conn, err
	}}
}

// flight is one time of asking DNS, for which any number of requests wait.
type flight struct {
	done chan struct{}
	err  error // nil if there are places
}

// ready returns when some place is known. What it starts beside ends with life and counts
// in busy.
func (r *resolver) ready(ctx context.Context, until time.Time, life context.Context, busy *sync.WaitGroup) error {
	if _, err := netip.ParseAddr(r.target.Host); err == nil {
		return nil // the client knows it since New
	}
	r.mu.Lock()
	known, age := len(r.good) > 0, r.tempo.dnsAge
	if !known {
		age = r.tempo.dnsRetry
	}
	if r.flight == nil && time.Since(r.asked) >= age {
		f := &flight{done: make(chan struct{})}
		r.flight = f
		busy.Go(func() { r.ask(life, f) })
	}
	f, err := r.flight, r.err
	r.mu.Unlock()
	switch {
	case known:
		return nil
	case f == nil:
		return err
	}
	if !until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return fmt.Errorf("name of server %s: no answer from DNS so far: %w", r.target, ctx.Err())
	}
}

// ask asks DNS and takes its answer. What was good stays so when the next one is not.
func (r *resolver) ask(life context.Context, f *flight) {
	ctx, cancel := context.WithTimeout(life, r.tempo.dnsTimeout)
	defer cancel()
	r.mu.Lock()
	old, wasSRV := r.good, r.srv
	r.mu.Unlock()
	places, isSRV, err := r.lookup(ctx, old, wasSRV)
	if err != nil {
		err = fmt.Errorf("name of server %s: %w", r.target, err)
	}
	if len(places) > 0 {
		r.learn(places)
	} else {
		f.err = err
	}
	r.mu.Lock()
	if len(places) > 0 {
		r.good, r.srv = places, isSRV
	}
	failed := r.err != nil
	r.asked, r.err, r.flight = time.Now(), err, nil
	r.mu.Unlock()
	close(f.done)
	switch {
	case life.Err() != nil:
	case err != nil && !failed:
		r.log.Warn("DNS fails; the last good answer is kept", "server", r.target, "addresses", len(old), "error", err)
	case err == nil && failed:
		r.log.Info("DNS is well again", "server", r.target, "addresses", len(places))
	}
}

// failing returns what the last question failed by, nil if it did not.
func (r *resolver) failing() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// lookup asks DNS once. An error beside places says that some of them are of old.
func (r *resolver) lookup(ctx context.Context, old []place, wasSRV bool) (places []place, isSRV bool, err error) {
	host, port := r.target.Host, r.target.port()
	if r.target.Port != 0 {
		places, err = r.addresses(ctx, old, []*net.SRV{{Target: host, Port: port}})
		return places, false, err
	}
	service := map[string][2]string{"udp": {"sip", "udp"}, "tcp": {"sip", "tcp"}, "tls": {"sips", "tcp"}}[r.target.Transport]
	_, records, err := r.dns.LookupSRV(ctx, service[0], service[1], host)
	records = records[:min(len(records), maxHops)]
	notFound, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case len(records) == 1 && records[0].Target == ".": // RFC 2782
		return nil, true, fmt.Errorf("SRV says that there is no service _%s._%s", service[0], service[1])
	case len(records) > 0:
		places, err = r.addresses(ctx, old, records)
		return places, true, err
	case err == nil || isDNS && notFound.IsNotFound:
		if wasSRV {
			return nil, true, fmt.Errorf("SRV records _%s._%s are gone", service[0], service[1])
		}
		places, err = r.addresses(ctx, old, []*net.SRV{{Target: host, Port: port}})
		return places, false, err
	default:
		return nil, true, fmt.Errorf("SRV _%s._%s (a port in the URI does without): %w", service[0], service[1], err)
	}
}

// addresses expands names into their addresses, in the same order. For a name that cannot
// be looked up now, the addresses that it had are returned, and the error.
func (r *resolver) addresses(ctx context.Context, old []place, records []*net.SRV) (places []place, failed error) {
	ips, errs := make([][]netip.Addr, len(records)), make([]error, len(records))
	var asking sync.WaitGroup
	for i, s := range records {
		asking.Go(func() { ips[i], errs[i] = r.dns.LookupNetIP(ctx, "ip", s.Target) })
	}
	asking.Wait()
	for i, s := range records {
		name := strings.TrimSuffix(s.Target, ".")
		if errs[i] == nil && len(ips[i]) == 0 {
			errs[i] = fmt.Errorf("%s has no address", name)
		}
		failed = cmp.Or(failed, errs[i])
		for _, ip := range ips[i] {
			places = add(places, place{netip.AddrPortFrom(ip.Unmap(), s.Port), name, s.Priority})
		}
		for _, p := range old {
			if errs[i] != nil && p.name == name && p.addr.Port() == s.Port {
				places = add(places, place{p.addr, name, s.Priority})
			}
		}
	}
	return places, failed
}

// add appends a place unless its address is there, or too many are.
func add(places []place, p place) []place {
	if len(places) >= maxHops || slices.ContainsFunc(places, func(q place) bool { return q.addr == p.addr }) {
		return places
	}
	return append(places, p)
}
