package main

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
	"github.com/busylamp/busylamp/plugin"
)

// forgetful is a notifier that keeps nothing: whatever it says it makes of the request. What
// the test's process grows by is the source's.
type forgetful struct {
	conn                            *net.UDPConn
	subscribes, refreshes, oks, bad atomic.Int64
	expires                         string      // that it grants
	silent                          atomic.Bool // to OPTIONS
}

func newForgetful(t testing.TB, expires string) *forgetful {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadBuffer(8 << 20)
	conn.SetWriteBuffer(8 << 20)
	f := &forgetful{conn: conn, expires: expires}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.serve()
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return f
}

func (f *forgetful) serve() {
	b := make([]byte, 65536)
	for {
		n, from, err := f.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		r := siptest.Request{Raw: string(b[:n])}
		reply := func(s string) { f.conn.WriteToUDPAddrPort([]byte(s), from) }
		switch {
		case strings.HasPrefix(r.Raw, "SIP/2.0 200"):
			f.oks.Add(1)
		case strings.HasPrefix(r.Raw, "SIP/2.0"):
			f.bad.Add(1)
		case strings.HasPrefix(r.Raw, "OPTIONS"):
			if !f.silent.Load() {
				reply(r.Answer("200 OK"))
			}
		default:
			f.subscribe(r, reply)
		}
	}
}

func (f *forgetful) subscribe(r siptest.Request, reply func(string)) {
	to, _, again := strings.Cut(r.Header("To"), ";tag=")
	f.subscribes.Add(1)
	if again {
		f.refreshes.Add(1)
	}
	expires, state := f.expires, "active;expires="+f.expires
	if r.Header("Expires") == "0" {
		expires, state = "0", "terminated;reason=timeout"
	}
	reply(strings.Join([]string{"SIP/2.0 200 OK", "Via: " + r.Header("Via"), "From: " + r.Header("From"), "To: " + to + ";tag=srv",
		"Call-ID: " + r.Header("Call-ID"), "CSeq: " + r.Header("CSeq"), "Expires: " + expires, "Contact: <sip:n@" + f.conn.LocalAddr().String() + ">", "Content-Length: 0", "", ""}, "\r\n"))
	body := open(strings.Trim(to, "<>"))
	number, _, _ := strings.Cut(r.Header("CSeq"), " ")
	reply(strings.Join([]string{"NOTIFY " + strings.Trim(r.Header("Contact"), "<>") + " SIP/2.0", "Via: SIP/2.0/UDP " + f.conn.LocalAddr().String() + ";branch=z9hG4bK" + r.Header("Call-ID") + number,
		"From: " + to + ";tag=srv", "To: " + r.Header("From"), "Call-ID: " + r.Header("Call-ID"), "CSeq: " + number + " NOTIFY",
		"Event: presence", "Subscription-State: " + state, "Content-Type: application/pidf+xml", fmt.Sprintf("Content-Length: %d", len(body)), "", body}, "\r\n"))
}

// used is the CPU time of the process.
func used() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// inUse is what the heap holds. What lies in pools goes with the second collection.
func inUse() uint64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestMany: 20,000 presentities (fewer with the race detector) over one socket, asked for at once: all become active, none of
// their NOTIFYs is refused, no goroutine stays for any; they are ended within the time that the
// end may take, or expire. Figures are logged.
func TestMany(t *testing.T) {
	const n = many
	f := newForgetful(t, "3600")
	h, stop := start(t, map[string]any{"server": f.conn.LocalAddr().String(), "uri": "sip:busylamp@example.com"}, 3*n)
	h.connector(plugin.Up)
	cpu, began := used(), time.Now()
	for i := range n {
		h.watch(fmt.Sprintf("sip:user%d@example.com", i))
	}
	h.active(n)
	for range n {
		select {
		case <-h.claims:
		case <-time.After(patience):
			t.Fatal("claims are missing")
		}
	}
	took, cpu := time.Since(began), used()-cpu
	held := inUse()
	t.Logf("%d subscriptions in %v; CPU of both sides %v; heap of both %d MB; %d goroutines", n, took.Round(time.Millisecond), cpu.Round(time.Millisecond), held>>20, runtime.NumGoroutine())
	if bad := f.bad.Load(); bad > 0 {
		t.Errorf("%d NOTIFYs were refused", bad)
	}
	if g := runtime.NumGoroutine(); g > 100 {
		t.Errorf("%d goroutines", g)
	}
	if held > 64<<20+n*8<<10 {
		t.Errorf("a heap of %d MB", held>>20)
	}
	began = time.Now()
	first := f.subscribes.Load()
	stop()
	t.Logf("%d of them ended in %v", f.subscribes.Load()-first, time.Since(began).Round(time.Millisecond))
}

// TestSpread: thousands of subscriptions that began together are refreshed one after another,
// and none is lost over it.
func TestSpread(t *testing.T) {
	t.Parallel()
	const n = 2000
	f := newForgetful(t, "10")
	h, _ := start(t, map[string]any{"server": f.conn.LocalAddr().String(), "uri": "sip:busylamp@example.com"}, 100*n)
	for i := range n {
		h.watch(fmt.Sprintf("sip:user%d@example.com", i))
	}
	h.active(n)
	began := time.Now()
	var at []int64
	for f.refreshes.Load() < n {
		at = append(at, f.refreshes.Load())
		time.Sleep(100 * time.Millisecond)
		if time.Since(began) > patience {
			t.Fatalf("%d refreshes", f.refreshes.Load())
		}
	}
	most := int64(0)
	for i := 10; i < len(at); i++ {
		most = max(most, at[i]-at[i-10])
	}
	t.Logf("%d refreshes at most in a second", most)
	select {
	case s := <-h.subscriptions:
		t.Errorf("%+v", s)
	default:
	}
}
