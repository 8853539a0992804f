package kamailio

import (
	"bytes"
	"fmt"
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
			g, err := openGuard(b.Context(), p.addr(), quick, &count)
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
			got, late := 0, time.After(time.Minute)
			for got+int(count.Dropped.Load()) < b.N {
				select {
				case <-g.frames:
					got++
				case <-time.After(time.Second): // the rest was dropped
				case <-g.done:
					b.Fatal(g.err)
				case <-late:
					b.Fatal("frames are missing")
				}
			}
			b.ReportMetric(float64(got*n)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(count.Dropped.Load()), "dropped")
		})
	}
}
