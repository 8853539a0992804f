package integration

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// The names of three publishers' servers, each with a fault of its own.
const (
	pairName  = "pair.test"  // two servers; the preferred one dies and comes back
	failsName = "fails.test" // DNS fails
	movesName = "moves.test" // DNS names another server from the second answer on
)

// renewal is how old an answer of DNS grows in busylamp before it asks again.
const renewal = time.Minute

// TestDNS: three publishers know their servers by name alone (RFC 3263: SRV, then A), and
// calls run all the while. Of the first, the preferred server dies: the other one shows the
// truth until it is back. At the second, DNS fails in both ways: the last good answer serves
// on. The third moves: busylamp follows when it asks next. 80 s, for the answers of DNS are
// good for a minute.
func TestDNS(t *testing.T) {
	t.Parallel() // it waits most of the time
	const rate, users, long, lasts, expires = 20, 200, 10, 75 * time.Second, 20 * time.Second
	sc := newScene(t, stack.KamailioOptions{Shared: 256})
	preferred, others := sc.recorder, make([]*stack.Recorder, 4)
	for i := range others {
		var err error
		others[i], err = sc.Recorder()
		check(t, err)
	}
	second, kept, old, moved := others[0], others[1], others[2], others[3]
	zone := newZone(t)
	zone.set(t, pairName, srv(pairName, "one", preferred, 10), srv(pairName, "two", second, 20))
	zone.set(t, failsName, srv(failsName, "one", kept, 10))
	zone.set(t, movesName, srv(movesName, "one", old, 10))
	sc.register(t, users+long)
	var err error
	sc.sidecar, err = sc.Sidecar(sc.ctx, stack.SidecarConfig{Evapi: sc.proxy.Evapi, RPC: sc.proxy.RPC, Nameserver: zone.ip,
		Server: pairName, Others: []string{failsName, movesName}, Expires: expires})
	check(t, err)
	check(t, sc.sidecar.WaitReady(sc.ctx, 20*time.Second))
	noFailures(t, sc.phones.Run(sc.ctx, stack.Load{Rate: 50, For: long * time.Second / 50, Hold: -1,
		Pair: func(i int) (string, string) { return pair(users + i) }}))
	for _, r := range []*stack.Recorder{preferred, kept, old} {
		sc.agreesAt(t, r, 10*time.Second, 0)
	}

	began := time.Now()
	load := make(chan stack.LoadResult, 1)
	go func() {
		load <- sc.phones.Run(sc.ctx, stack.Load{Rate: rate, For: lasts, Hold: 2 * time.Second,
			Pair: func(i int) (string, string) { return pair(i % users) }})
	}()
	zone.fail(failsName)
	zone.set(t, movesName, srv(movesName, "two", moved, 10))
	over, back := sc.failsOver(t, preferred, second, expires)

	before := zone.questions(movesName)
	check(t, sc.Wait(sc.ctx, time.Until(began.Add(renewal+15*time.Second)), "another question for "+movesName, func() error {
		if zone.questions(movesName) == before {
			return fmt.Errorf("%d questions so far", before)
		}
		return nil
	}))
	old.Die()
	follows := sc.agreesAt(t, moved, 30*time.Second, slack)

	noFailures(t, <-load)
	if n := zone.failures(); n < 2 {
		t.Errorf("DNS failed %d times, not at least twice: this shows nothing", n)
	}
	if text, err := os.ReadFile(sc.sidecar.Log); err != nil || !strings.Contains(string(text), "the last good answer is kept") {
		t.Errorf("the log does not say that the last good answer is kept: %v", err)
	}
	for _, r := range []*stack.Recorder{preferred, kept, moved} {
		sc.agreesAt(t, r, 10*time.Second, 0)
	}
	sc.hangup(t, 100)
	for _, r := range []*stack.Recorder{preferred, second, kept, moved} {
		sc.agreesAt(t, r, 10*time.Second, 0)
	}
	record.Fault(t, "dns", zone.failures()+2, "%d calls/s; DNS failed %d times, last good answer used; other server right %.1f s after the preferred one died, that one %.1f s after its return; moved server right %.1f s after DNS told",
		rate, zone.failures(), over.Seconds(), back.Seconds(), follows.Seconds())
}

// agreesAt waits until a recorder's lamps agree with the phones, but for some, and returns
// how long it took.
func (sc *scene) agreesAt(t *testing.T, r *stack.Recorder, atMost time.Duration, but int) time.Duration {
	t.Helper()
	began := time.Now()
	check(t, sc.Wait(sc.ctx, atMost, "lamps at "+r.Addr+" that agree with the calls", func() error {
		lit, inCalls := r.Lit(), sc.phones.InCalls()
		if wrongOf(lit, inCalls) > but {
			return stack.Compare(lit, inCalls)
		}
		return nil
	}))
	return time.Since(began)
}

// failsOver lets the preferred one of two servers die, until it has nothing any more, and
// come back. It returns how long it took until each of them was right.
func (sc *scene) failsOver(t *testing.T, preferred, other *stack.Recorder, expires time.Duration) (over, back time.Duration) {
	t.Helper()
	time.Sleep(3 * time.Second)
	if n := wrongOf(other.Lit(), sc.phones.InCalls()); n <= slack {
		t.Errorf("the other server is right before the preferred one has died: %d lamps wrong", n)
	}
	preferred.Die()
	died := time.Now()
	over = sc.agreesAt(t, other, 30*time.Second, slack)
	time.Sleep(time.Until(died.Add(expires + time.Second)))
	preferred.Revive()
	back = sc.agreesAt(t, preferred, 30*time.Second, slack)
	return over, back
}

// nameserver is a DNS server on port 53 of some address of loopback.
type nameserver struct {
	ip string

	mu      sync.Mutex
	records map[string][]dns.RR // by zone
	broken  map[string]bool     // zones
	asked   map[string]int      // by zone
	failed  int
}

// newZone starts a nameserver.
func newZone(t *testing.T) *nameserver {
	t.Helper()
	n := &nameserver{records: map[string][]dns.RR{}, broken: map[string]bool{}, asked: map[string]int{}}
	var conn net.PacketConn
	var err error
	for range 20 {
		n.ip = fmt.Sprintf("127.0.53.%d", 1+rand.IntN(250))
		if conn, err = net.ListenPacket("udp4", n.ip+":53"); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatalf("a DNS server needs port 53, which root may have, and others by net.ipv4.ip_unprivileged_port_start=53: %v", err)
	}
	started, ended := make(chan struct{}), make(chan struct{})
	srv := &dns.Server{PacketConn: conn, Handler: n, NotifyStartedFunc: func() { close(started) }}
	go func() {
		defer close(ended)
		_ = srv.ActivateAndServe() // it ends by Shutdown
	}()
	<-started
	t.Cleanup(func() {
		if err := srv.Shutdown(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return n
}

// srv are the records of one of a name's servers: where it is, and how much it is preferred
// (the lowest priority first).
func srv(zone, host string, r *stack.Recorder, priority int) string {
	_, port, _ := net.SplitHostPort(r.Addr)
	return fmt.Sprintf("_sip._udp.%s. 0 IN SRV %d 0 %s %s.%s.\n%s.%s. 0 IN A 127.0.0.1", zone, priority, port, host, zone, host, zone)
}

// set replaces a zone's records.
func (n *nameserver) set(t *testing.T, zone string, servers ...string) {
	t.Helper()
	var all []dns.RR
	for line := range strings.SplitSeq(strings.Join(servers, "\n"), "\n") {
		rr, err := dns.NewRR(line)
		check(t, err)
		all = append(all, rr)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.records[zone] = all
}

// fail breaks a zone: of two questions one gets SERVFAIL and the next nothing.
func (n *nameserver) fail(zone string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken[zone] = true
}

func (n *nameserver) questions(zone string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[zone]
}

func (n *nameserver) failures() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.failed
}

// ServeDNS answers a question, of UDP alone: these answers are short.
func (n *nameserver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	name := strings.ToLower(q.Question[0].Name)
	labels := dns.SplitDomainName(name)
	zone := strings.Join(labels[max(0, len(labels)-2):], ".")
	n.asked[zone]++
	a := new(dns.Msg)
	a.SetReply(q)
	if n.broken[zone] {
		n.failed++
		if n.failed%2 == 0 {
			return
		}
		a.Rcode = dns.RcodeServerFailure
	}
	for _, rr := range n.records[zone] {
		if h := rr.Header(); a.Rcode == dns.RcodeSuccess && h.Name == name && h.Rrtype == q.Question[0].Qtype {
			a.Answer = append(a.Answer, rr)
		}
	}
	_ = w.WriteMsg(a) // what is lost is asked again
}
