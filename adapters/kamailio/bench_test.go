package kamailio

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

// eventFrame is a frame of n calls.
func eventFrame(n int) []byte {
	var b bytes.Buffer
	b.WriteString("busylamp/1 1700000000.123456")
	for i := range n {
		b.WriteString("\n" + encode(busylamp.CallEvent{Dialog: busylamp.DialogID{Entry: 1234, ID: uint32(i)}, Stage: busylamp.Confirmed, Seq: uint32(i),
			Caller: "sip:alice@example.com", Callee: "sip:bob@example.com", CallID: "f81d4fae-7dec-11d0-a765-00a0c91e6bf6@example.com"}))
	}
	return b.Bytes()
}

func BenchmarkDecodeFrame(b *testing.B) {
	for _, n := range []int{1, 20} {
		b.Run(fmt.Sprint("events=", n), func(b *testing.B) {
			payload := eventFrame(n)
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				if f, err := decodeFrame(payload); err != nil || len(f.events) != n {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkGuard is the way from Kamailio's socket through the guard and kamevapi.
func BenchmarkGuard(b *testing.B) {
	for _, n := range []int{1, 20} {
		b.Run(fmt.Sprint("events=", n), func(b *testing.B) {
			p := newPeer(b)
			var count Counters
			var got atomic.Int64
			all := make(chan struct{})
			g, err := openGuard(b.Context(), p.addr(), quick, &count, func([]byte) {
				if got.Add(1) == int64(b.N) {
					close(all)
				}
			})
			if err != nil {
				b.Fatal(err)
			}
			defer g.close()
			c := p.registered(b)
			frame := netstring(string(eventFrame(n)))
			many := bytes.Repeat(frame, 64<<10/len(frame)+1)
			b.ReportAllocs()
			b.ResetTimer()
			go func() {
				for left := b.N * len(frame); left > 0; left -= len(many) {
					c.Write(many[:min(left, len(many))])
				}
			}()
			select {
			case <-all:
			case <-g.done:
				b.Fatal(g.err)
			case <-time.After(time.Minute):
				b.Fatal("frames are missing")
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkDump reads a file of 10,000 dialogs, as the proxy writes it.
func BenchmarkDump(b *testing.B) {
	const n = 10_000
	f, err := os.Create(filepath.Join(b.TempDir(), "dump"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var wanted []busylamp.Listed
	for i := range n {
		fmt.Fprintf(f, `{"h_entry":%d,"h_id":%d,"ref":2,"call_id":"b%08x-7d1c-4c1f-9f3e-0123456789ab@192.0.2.7","from_uri":"sip:caller%d@example.com","to_uri":"sip:callee%[2]d@example.com","state":4,"start_ts":1795283578,"init_ts":1795283587,"end_ts":0,"timeout":1795305194,"lifetime":21600,"dflags":0,"sflags":0,"iflags":0,"caller":{"tag":"ft%[2]d","contact":"sip:caller%[2]d@192.0.2.7:5070","cseq":"1","route_set":"","socket":"udp:127.0.0.1:5960"},"callee":{"tag":"tt%[2]d","contact":"sip:callee%[2]d@192.0.2.8:5070","cseq":"1","route_set":"","socket":"udp:127.0.0.1:5960"},"profiles":{},"variables":{"busylamp_callee":"sip:callee%[2]d@example.com"}}`+"\n", i%4096, i, i, i)
		wanted = append(wanted, busylamp.Listed{Dialog: busylamp.DialogID{Entry: uint32(i % 4096), ID: uint32(i)}})
	}
	d := &dumper{reserved: dumpMost}
	b.Run("list", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if live, err := d.live(f); err != nil || len(live) != n {
				b.Fatal(len(live), err)
			}
		}
	})
	b.Run("details", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			again, err := os.Open(f.Name())
			if err != nil {
				b.Fatal(err)
			}
			d.last = again
			if err := d.details(b.Context(), wanted, func([]busylamp.CallEvent) {}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
