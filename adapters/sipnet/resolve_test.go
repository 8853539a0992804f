package sipnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// TestResolve: RFC 3263 section 4.2, against a real DNS server.
func TestResolve(t *testing.T) {
	z := newZone(t,
		"_sip._udp.srv.test. 0 IN SRV 20 0 5070 b.test.",
		"_sip._udp.srv.test. 0 IN SRV 10 0 5071 a.test.",
		"_sip._tcp.srv.test. 0 IN SRV 10 0 5072 a.test.",
		"_sips._tcp.srv.test. 0 IN SRV 10 0 5073 a.test.",
		"_sip._udp.half.test. 0 IN SRV 10 0 5070 nowhere.test.",
		"_sip._udp.half.test. 0 IN SRV 20 0 5070 a.test.",
		"_sip._udp.none.test. 0 IN SRV 0 0 0 .",
		"none.test. 0 IN A 127.0.0.9",
		"srv.test. 0 IN A 127.0.0.9",
		"a.test. 0 IN A 127.0.0.1",
		"a.test. 0 IN AAAA ::1",
		"b.test. 0 IN A 127.0.0.2",
		"b.test. 0 IN A 127.0.0.2")
	for uri, want := range map[string]string{
		"sip:srv.test":                             "127.0.0.1:5071 [::1]:5071 127.0.0.2:5070",
		"sip:srv.test.;transport=tcp":              "127.0.0.1:5072 [::1]:5072",
		"sips:srv.test":                            "127.0.0.1:5073 [::1]:5073",
		"sip:srv.test:5099":                        "127.0.0.9:5099",
		"sip:b.test":                               "127.0.0.2:5060",
		"sip:b.test;transport=tls":                 "127.0.0.2:5061",
		"sip:half.test":                            "127.0.0.1:5070 [::1]:5070",
		"sip:none.test":                            "SRV says that there is no service",
		"sip:nowhere.test":                         "no such host",
		"sip:127.0.0.7":                            "127.0.0.7:5060",
		"sip:[::ffff:127.0.0.7]:1;transport=tcp":   "127.0.0.7:1",
		"sip:[2001:db8::1];transport=tls":          "[2001:db8::1]:5061",
		"sip:" + strings.Repeat("x", 64) + ".test": "no such host",
	} {
		c := clientOf(t, Config{Server: targetOf(t, uri), Resolver: z.resolver()}, quick())
		c.busy.Add(1)
		err := c.name.ready(t.Context(), time.Time{}, c.life, &c.busy)
		c.busy.Done()
		if err != nil {
			if !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "name of server "+c.cfg.Server.String()+": ") {
				t.Errorf("%s: %v, want %s", uri, err, want)
			}
			continue
		}
		got := addresses(c)
		if want := strings.Fields(want); len(got) == len(want) { // which family goes first is the system's business
			slices.Sort(got[:min(2, len(got))])
			slices.Sort(want[:min(2, len(want))])
			if slices.Equal(got, want) {
				continue
			}
		}
		t.Errorf("%s: %v, want %s", uri, got, want)
	}
}

// TestSRVWeights: within a priority the shares of many clients are those of the weights.
func TestSRVWeights(t *testing.T) {
	t.Parallel()
	const clients = 400
	z := newZone(t, join(srv("udp", "127.0.0.1:5001", 10, 90), srv("udp", "127.0.0.1:5002", 10, 10), srv("udp", "127.0.0.1:5003", 20, 1000))...)
	first := map[string]int{}
	for range clients {
		c := z.client(t, "udp", quick())
		c.busy.Add(1)
		if err := c.name.ready(t.Context(), time.Time{}, c.life, &c.busy); err != nil {
			t.Fatal(err)
		}
		c.busy.Done()
		first[inUse(c)]++
		c.Close()
	}
	// 40 is expected of the second, with a standard deviation of 6.
	if n := first["127.0.0.1:5002"]; n < 10 || n > 80 || first["127.0.0.1:5001"] != clients-n {
		t.Errorf("%v", first)
	}
}

// TestTooManyHops: what DNS says is bounded.
func TestTooManyHops(t *testing.T) {
	t.Parallel()
	var records []string
	for i := range 40 {
		records = append(records, srv("udp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}), 5060).String(), 10, 1)...)
	}
	many := []string{"_sip._udp.presence.test. 0 IN SRV 0 0 5060 many.test."}
	for i := range 40 {
		many = append(many, fmt.Sprintf("many.test. 0 IN A 127.0.2.%d", i))
	}
	for _, records := range [][]string{records, many} {
		c := newZone(t, records...).client(t, "udp", quick())
		renew(t, c)
		if n := len(addresses(c)); n != maxHops {
			t.Errorf("%d hops", n)
		}
	}
}

// TestHopStays: DNS that shuffles its answers does not move publications about.
func TestHopStays(t *testing.T) {
	a, b, x := netip.MustParseAddrPort("192.0.2.1:5060"), netip.MustParseAddrPort("192.0.2.2:5060"), netip.MustParseAddrPort("192.0.2.3:5060")
	c := clientOf(t, Config{Server: Target{Host: "presence.test", Transport: "udp"}}, quick())
	hops := func(addrs ...netip.AddrPort) (places []place) {
		for _, addr := range addrs {
			places = append(places, place{addr: addr, priority: 10})
		}
		return places
	}
	better := append(hops(a, b), place{addr: x, priority: 5})
	const back = 8 // the step before which x is up again
	for i, tc := range []struct {
		places []place
		want   netip.AddrPort // in use
		first  netip.AddrPort
		down   []netip.AddrPort
	}{
		{hops(a, b), a, a, nil},
		{hops(b, a), a, a, nil},
		{hops(b, x, a), a, a, nil},
		{hops(x, b), x, x, nil},    // DNS's first, when ours is gone
		{hops(a, b, x), x, x, nil}, // and it stays in its turn
		{hops(b, a, x), b, x, []netip.AddrPort{x}},
		{hops(a, x, b), b, x, nil}, // the hop in use, too, while the first is down
		{hops(a, b), b, b, nil},    // and when that is gone
		{better, x, x, nil},
		{hops(a, b), a, a, nil},
	} {
		c.learn(tc.places)
		for _, h := range c.hops {
			if slices.Contains(tc.down, h.addr) {
				c.fell(h, "test", time.Hour, false)
			}
			if i == back && h.addr == x {
				c.rose(h, true)
			}
		}
		if got := addresses(c)[0]; got != tc.first.String() {
			t.Errorf("%d: %v first, want %v", i, got, tc.first)
		}
		if got := inUse(c); got != tc.want.String() {
			t.Errorf("%d: %v in use, want %v: %+v", i, got, tc.want, c.Status())
		}
	}
}

// TestAddressChange: requests under way end at the old address, further ones go to the new.
func TestAddressChange(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			answer := make(chan struct{})
			first := siptest.New(t, transport, "127.0.0.1:0", func(r siptest.Request) {
				select {
				case <-answer:
				case <-time.After(patience):
				}
				r.Accept("first")
			})
			second := siptest.New(t, transport, "127.0.0.1:0", accept("second"))
			z := newZone(t, srv(transport, first.Addr(), 10, 0)...)
			c := z.client(t, transport, normal)
			wait := begin(t, c, first, 1)
			old := pathTo(c)
			z.set(t, srv(transport, second.Addr(), 10, 0)...)
			renew(t, c)
			if tag := accepted(t, c); tag != "second" {
				t.Errorf("tag %s", tag)
			}
			close(answer)
			wait()
			if old.life.Err() == nil {
				t.Error("the old path is open after its last request")
			}
		})
	}
}

// TestDNSFails: the last good answer stays in use, whatever befalls DNS, and that is told
// of when it begins and when it ends.
func TestDNSFails(t *testing.T) {
	server := siptest.New(t, "udp", "127.0.0.1:0", accept("t1"))
	good := srv("udp", server.Addr(), 10, 0)
	for name, fail := range map[string]func(*testing.T, *zone){
		"SERVFAIL":    func(_ *testing.T, z *zone) { z.fails(dns.RcodeServerFailure, false) },
		"NXDOMAIN":    func(_ *testing.T, z *zone) { z.fails(dns.RcodeNameError, false) },
		"no answer":   func(_ *testing.T, z *zone) { z.fails(dns.RcodeSuccess, true) },
		"no SRV":      func(t *testing.T, z *zone) { z.set(t, good[1], "presence.test. 0 IN A 127.0.0.9") },
		"no address":  func(t *testing.T, z *zone) { z.set(t, good[0]) },
		"no services": func(t *testing.T, z *zone) { z.set(t, "_sip._udp.presence.test. 0 IN SRV 0 0 0 .") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z, log := newZone(t, good...), &logged{}
			pace := quick()
			pace.dnsTimeout = 500 * time.Millisecond
			c := z.client(t, "udp", pace, log.to())
			accepted(t, c)
			fail(t, z)
			for range 2 {
				renew(t, c)
				finish(t, patience, func() { accepted(t, c) })
			}
			if s := c.Status(); s.DNS == nil || len(s.Hops) != 1 || !s.Hops[0].Up {
				t.Errorf("%+v", s)
			}
			z.set(t, good...)
			z.fails(dns.RcodeSuccess, false)
			renew(t, c)
			accepted(t, c)
			if s := c.Status(); s.DNS != nil {
				t.Errorf("%+v", s)
			}
			if log.count("DNS fails") != 1 || log.count("DNS is well again") != 1 {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}

// TestDNSFailsInPart: of a name that cannot be looked up, what it had is kept.
func TestDNSFailsInPart(t *testing.T) {
	t.Parallel()
	first, second := srv("udp", "127.0.0.1:5001", 10, 0), srv("udp", "127.0.0.2:5002", 20, 0)
	z := newZone(t, join(first, second)...)
	c := z.client(t, "udp", quick())
	renew(t, c)
	z.set(t, first[0], second[0], second[1])
	renew(t, c)
	if got := addresses(c); len(got) != 2 || got[0] != "127.0.0.1:5001" || c.Status().DNS == nil {
		t.Errorf("%v, %v", got, c.Status().DNS)
	}
}

// TestNameComesBack: without any answer yet requests fail, and the first good one mends it.
func TestNameComesBack(t *testing.T) {
	t.Parallel()
	server := siptest.New(t, "udp", "127.0.0.1:0", accept("t1"))
	z := newZone(t, srv("udp", server.Addr(), 10, 0)...)
	z.fails(dns.RcodeServerFailure, false)
	c := z.client(t, "udp", quick())
	if _, err := send(c, patience); err == nil || !strings.HasPrefix(err.Error(), "name of server sip:presence.test;transport=udp: SRV _sip._udp") {
		t.Error(err)
	}
	z.fails(dns.RcodeSuccess, true)
	time.Sleep(2 * c.pace.dnsRetry)
	finish(t, patience, func() {
		if _, err := send(c, 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "no answer from DNS so far") {
			t.Error(err)
		}
	})
	z.fails(dns.RcodeSuccess, false)
	eventually(t, "the name is known", func() bool {
		_, err := send(c, time.Second)
		return err == nil
	})
}

// TestSlowName: once an address is known, nobody waits for DNS, and one question at a time
// is out.
func TestSlowName(t *testing.T) {
	t.Parallel()
	server := siptest.New(t, "udp", "127.0.0.1:0", accept("t1"))
	z := newZone(t, srv("udp", server.Addr(), 10, 0)...)
	pace := normal
	pace.dnsTimeout = time.Minute
	c := z.client(t, "udp", pace)
	accepted(t, c)
	z.fails(dns.RcodeSuccess, true)
	before := z.questions()
	c.age()
	finish(t, patience, func() {
		for range 100 {
			accepted(t, c)
		}
	})
	if n := z.questions() - before; n > 2 {
		t.Errorf("asked %d times", n)
	}
	finish(t, time.Second, func() { c.Close() })
}

func TestNames(t *testing.T) {
	ips, err := net.DefaultResolver.LookupNetIP(t.Context(), "ip", "localhost")
	if err != nil {
		missing(t, "no localhost: write 127.0.0.1 localhost into /etc/hosts")
	}
	srv := siptest.New(t, "tcp", netip.AddrPortFrom(ips[0].Unmap(), 0).String(), accept("t1"))
	_, port, _ := net.SplitHostPort(srv.Addr())
	accepted(t, clientTo(t, "localhost:"+port, "tcp"))
	if _, err := New(Config{Server: Target{Host: "127.0.0.1", Transport: "udp"}, TLS: TLS{ServerName: "x"}}); err == nil || errors.Unwrap(err) != nil {
		t.Errorf("tls without TLS: %v", err)
	}
}
