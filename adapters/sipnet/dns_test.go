package sipnet

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// zone is a DNS server on loopback.
type zone struct {
	addr string

	mu      sync.Mutex
	records map[string][]dns.RR // by name and type, as in "a.test. A"
	rcode   int                 // not 0: the answer to everything
	mute    bool                // answers nothing
	asked   int
}

// newZone serves records in the form of a zone file.
func newZone(t testing.TB, records ...string) *zone {
	t.Helper()
	z := &zone{}
	z.set(t, records...)
	udp, tcp := listenBoth(t)
	z.addr = udp.LocalAddr().String()
	for _, srv := range []*dns.Server{{PacketConn: udp, Handler: z}, {Listener: tcp, Handler: z}} {
		started, ended := make(chan struct{}), make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(ended)
			srv.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() { srv.Shutdown(); <-ended })
	}
	return z
}

// listenBoth listens by UDP and TCP on one port that is free for both.
func listenBoth(t testing.TB) (udp net.PacketConn, tcp net.Listener) {
	t.Helper()
	for range 10 {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if tcp, err := net.Listen("tcp", udp.LocalAddr().String()); err == nil {
			return udp, tcp
		}
		udp.Close()
	}
	t.Fatal("no port that is free for UDP and TCP")
	return nil, nil
}

// set replaces all records.
func (z *zone) set(t testing.TB, records ...string) {
	t.Helper()
	all := map[string][]dns.RR{}
	for _, s := range records {
		rr, err := dns.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		key := rr.Header().Name + " " + dns.TypeToString[rr.Header().Rrtype]
		all[key] = append(all[key], rr)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records = all
}

// fails makes every answer an error, and none for dns.RcodeSuccess; mute, that there is
// no answer.
func (z *zone) fails(rcode int, mute bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.rcode, z.mute = rcode, mute
}

func (z *zone) questions() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.asked
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked++
	if z.mute {
		return
	}
	a := new(dns.Msg)
	a.SetRcode(q, z.rcode)
	if z.rcode == dns.RcodeSuccess {
		name := strings.ToLower(q.Question[0].Name)
		if a.Answer = z.records[name+" "+dns.TypeToString[q.Question[0].Qtype]]; a.Answer == nil {
			a.Rcode = dns.RcodeNameError
			for key := range z.records {
				if strings.HasPrefix(key, name+" ") {
					a.Rcode = dns.RcodeSuccess // another type's
				}
			}
		}
	}
	if w.LocalAddr().Network() == "udp" {
		size := dns.MinMsgSize
		if o := q.IsEdns0(); o != nil {
			size = int(o.UDPSize())
		}
		a.Truncate(size)
	}
	w.WriteMsg(a)
}

func (z *zone) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, z.addr)
	}}
}

// client returns a client to presence.test.
func (z *zone) client(t testing.TB, transport string, pace tempo, change ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{Server: Target{Host: "presence.test", Transport: transport}, Resolver: z.resolver()}
	for _, f := range change {
		f(&cfg)
	}
	return clientOf(t, cfg, pace)
}

// srv is an SRV record of presence.test for a server's address, and the address of its name.
func srv(transport, addr string, priority, weight int) []string {
	host, port, _ := net.SplitHostPort(addr)
	service := map[string]string{"udp": "_sip._udp", "tcp": "_sip._tcp", "tls": "_sips._tcp"}[transport]
	name := "h" + strings.NewReplacer(".", "-", ":", "-").Replace(host) + "-" + port + ".test."
	kind := "A"
	if strings.Contains(host, ":") {
		kind = "AAAA"
	}
	return []string{fmt.Sprintf("%s.presence.test. 0 IN SRV %d %d %s %s", service, priority, weight, port, name),
		fmt.Sprintf("%s 0 IN %s %s", name, kind, host)}
}

func join(records ...[]string) (all []string) {
	for _, r := range records {
		all = append(all, r...)
	}
	return all
}

// age makes the answer of DNS stale.
func (c *Client) age() {
	c.name.mu.Lock()
	defer c.name.mu.Unlock()
	c.name.asked = c.name.asked.Add(-2 * c.name.tempo.dnsAge)
}

// renew asks DNS anew and waits until it has answered, or failed to.
func renew(t testing.TB, c *Client) {
	t.Helper()
	c.age()
	c.busy.Add(1)
	defer c.busy.Done()
	if err := c.name.ready(context.Background(), time.Time{}, c.life, &c.busy); err != nil {
		t.Fatal(err)
	}
	eventually(t, "DNS has answered", func() bool {
		c.name.mu.Lock()
		defer c.name.mu.Unlock()
		return c.name.flight == nil
	})
}

// addresses are the hops' in their order.
func addresses(c *Client) (all []string) {
	for _, h := range c.Status().Hops {
		all = append(all, h.Address.String())
	}
	return all
}

// inUse is the address of the hop in use, "" if none is.
func inUse(c *Client) string {
	for _, h := range c.Status().Hops {
		if h.InUse {
			return h.Address.String()
		}
	}
	return ""
}

// logged is a log that a test reads.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), what)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logged) to() func(*Config) {
	return func(c *Config) { c.Log = slog.New(slog.NewTextHandler(l, nil)) }
}
