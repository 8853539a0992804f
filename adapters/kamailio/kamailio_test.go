package kamailio

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

// These tests need Kamailio and sipp: apt install kamailio kamailio-extra-modules sip-tester.

// live lists the dialogs that are up, with their details.
func live(t testing.TB, truth *Truth) (busylamp.Listing, map[busylamp.DialogID]busylamp.CallEvent) {
	t.Helper()
	l, err := truth.List(within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	all := map[busylamp.DialogID]busylamp.CallEvent{}
	if err := truth.Details(within(t, 20*time.Second), l.Live, func(events []busylamp.CallEvent) {
		for _, ev := range events {
			all[ev.Dialog] = ev
		}
	}); err != nil {
		t.Fatal(err)
	}
	return l, all
}

// agree holds the truth against the events of calls that are up.
func agree(t testing.TB, truth *Truth, sink *recorder, n int) {
	t.Helper()
	l, details := live(t, truth)
	if len(l.Live) != n || len(details) != n || sink.count("connected "+l.Epoch) != 1 {
		t.Fatalf("%d listed, %d detailed, want %d; epoch %s; events: %v", len(l.Live), len(details), n, l.Epoch, sink)
	}
	sink.mu.Lock()
	defer sink.mu.Unlock()
	for _, ev := range sink.calls {
		d := details[ev.Dialog]
		if d.Lapses < 11*time.Hour || d.Lapses > 12*time.Hour { // dialog's default_timeout
			t.Errorf("%v lapses in %v", ev.Dialog, d.Lapses)
		}
		d.Lapses = 0
		if d.Seq = ev.Seq; d != ev {
			t.Errorf("event  %+v\ndetail %+v", ev, d)
		}
	}
}

func TestKamailio(t *testing.T) {
	p, sink := newProxy(t), &recorder{}
	p.phones(t)
	k, _ := run(t, fmt.Sprintf("127.0.0.1:%d", p.evapi), sink, quick)
	eventually(t, 20*time.Second, "connected", func() bool { return sink.count("connected") == 1 }, p.tail)
	viaHTTP, viaFIFO := NewTruth(p.rpc(t, p.http())), NewTruth(p.rpc(t, "fifo:"+p.fifo))
	for _, truth := range []*Truth{viaHTTP, viaFIFO} {
		if l, details := live(t, truth); len(l.Live)+len(details) != 0 {
			t.Errorf("calls before there are any: %v", l)
		}
	}
	const n = 200
	uac := p.calls(t, n, 100, 6*time.Second)
	eventually(t, 30*time.Second, "all calls begin", func() bool { return sink.count("call") == n }, sink.String, p.tail)
	agree(t, viaHTTP, sink, n)
	agree(t, viaFIFO, sink, n)
	sink.mu.Lock()
	for _, ev := range sink.calls {
		user, _, _ := strings.Cut(strings.TrimPrefix(ev.Caller, "sip:alice"), "@")
		if want := "sip:bob" + user + "@example.com"; ev.Callee != want || ev.Stage != busylamp.Confirmed || ev.CallID == "" {
			t.Errorf("%+v; want the callee %s", ev, want)
		}
	}
	sink.mu.Unlock()
	if err := uac.Wait(); err != nil {
		t.Errorf("sipp: %v", err)
	}
	eventually(t, 20*time.Second, "all calls end", func() bool { return sink.count("call") == 2*n }, sink.String, p.tail)
	if l, _ := live(t, viaHTTP); len(l.Live) != 0 {
		t.Errorf("%d calls live on", len(l.Live))
	}
	if sink.count("doubt") > 0 || k.Count.Lost.Load() > 0 || k.Count.BadLines.Load() > 0 {
		t.Errorf("doubts: %v", sink)
	}
}

// TestKamailioHostile: a caller chooses the Call-ID.
func TestKamailioHostile(t *testing.T) {
	p, sink := newProxy(t), &recorder{}
	p.phones(t)
	run(t, fmt.Sprintf("127.0.0.1:%d", p.evapi), sink, quick)
	eventually(t, 20*time.Second, "connected", func() bool { return sink.count("connected") == 1 }, p.tail)
	ids := []string{"\xff\xfe\x80@x", `"q"uo"te"`, `\`, `back\slash\`, `a\u0041`, "}{", "'", "\xc3\xa9", "<>[]?/:;", `","x":"`,
		strings.Repeat("l", 120), strings.Repeat(`"`, 400)}
	for _, id := range ids {
		p.calls(t, 1, 10, time.Minute, "-cid_str", id)
	}
	eventually(t, 30*time.Second, "all calls begin", func() bool { return sink.count("call") == len(ids) }, sink.String, p.tail)
	agree(t, NewTruth(p.rpc(t, p.http())), sink, len(ids))
	agree(t, NewTruth(p.rpc(t, "fifo:"+p.fifo)), sink, len(ids))
	agree(t, p.byFile(t), sink, len(ids))
	for _, id := range ids {
		found := false
		for _, ev := range sink.calls {
			found = found || ev.CallID == id[:min(len(id), maxCallID)]
		}
		if !found {
			t.Errorf("no event of %q", id)
		}
	}
}

// TestKamailioRestart: the proxy dies and comes back as another life.
func TestKamailioRestart(t *testing.T) {
	p, sink := newProxy(t), &recorder{}
	run(t, fmt.Sprintf("127.0.0.1:%d", p.evapi), sink, quick)
	eventually(t, 20*time.Second, "connected", func() bool { return sink.count("connected") == 1 }, p.tail)
	truth := NewTruth(p.rpc(t, p.http()))
	first, _ := live(t, truth)
	kill(p.cmd)
	eventually(t, 20*time.Second, "disconnected", func() bool { return sink.count("disconnected") == 1 })
	if _, err := truth.List(within(t, 5*time.Second)); err == nil || !strings.Contains(err.Error(), p.http()) {
		t.Errorf("a list of a dead proxy: %v", err)
	}
	p.start(t)
	eventually(t, 20*time.Second, "connected again", func() bool { return sink.count("connected") == 2 }, p.tail)
	second, _ := live(t, truth)
	if second.Epoch == first.Epoch || sink.count("connected "+second.Epoch) != 1 {
		t.Errorf("epochs %s and %s: %v", first.Epoch, second.Epoch, sink)
	}
}

// TestKamailioFilter: what the adapter does not need, /RPC does not answer.
func TestKamailioFilter(t *testing.T) {
	p := newProxy(t)
	err := client(t, p.http()).call(within(t, 20*time.Second), new(any), "core.shutdown")
	if err == nil || !strings.Contains(err.Error(), "403") || !strings.Contains(err.Error(), "core.shutdown") {
		t.Errorf("%v", err)
	}
}
