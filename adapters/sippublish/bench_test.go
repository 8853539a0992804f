package sippublish

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"runtime"
	"testing"

	"github.com/busylamp/busylamp"
)

// echo answers over UDP as cheaply as it can, so that the publisher is what is measured.
func echo(b testing.TB) string {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	conn.SetReadBuffer(4 << 20)
	conn.SetWriteBuffer(4 << 20)
	done := make(chan struct{})
	go func() {
		defer close(done)
		in, out := make([]byte, 65536), make([]byte, 0, 4096)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(in)
			if err != nil {
				return
			}
			// The headers that an answer repeats are the first ones, up to CSeq's line.
			_, rest, _ := bytes.Cut(in[:n], []byte("\r\n"))
			end := bytes.Index(rest, []byte("Max-Forwards"))
			out = append(out[:0], "SIP/2.0 200 OK\r\n"...)
			out = append(out, rest[:end]...)
			out = append(out, "SIP-ETag: a.1234.5678.9.0\r\nExpires: 600\r\nContent-Length: 0\r\n\r\n"...)
			conn.WriteToUDPAddrPort(out, from)
		}
	}()
	b.Cleanup(func() { conn.Close(); <-done })
	return conn.LocalAddr().String()
}

func BenchmarkPublish(b *testing.B) {
	for _, inFlight := range []int{64, 256} {
		b.Run(fmt.Sprintf("inflight=%d", inFlight), func(b *testing.B) {
			p := newPublisher(b, echo(b), "udp")
			b.SetParallelism(inFlight / runtime.GOMAXPROCS(0))
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if o := p.Publish(context.Background(), initial); o.Result != busylamp.Accepted {
						b.Errorf("%+v", o)
					}
				}
			})
		})
	}
}
