package store

import (
	"context"
	"fmt"
	"testing"

	"github.com/busylamp/busylamp"
)

// BenchmarkCommit is what a commit costs that makes so many records durable at once.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{1, 64, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := open(b, place(b), Options{})
			ops := make([][]busylamp.StoreOp, 64)
			for i := range ops {
				ops[i] = puts(i*n, (i+1)*n)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := s.Commit(context.Background(), ops[i%len(ops)]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkLoad is a start: opening a store, and reading what is in it.
func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{0, 200_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := place(b)
			s := open(b, dir, Options{})
			for from := 0; from < n; from += 10_000 {
				commit(b, s, puts(from, from+10_000)...)
			}
			_ = s.Close()
			b.ReportAllocs()
			for b.Loop() {
				s := open(b, dir, Options{})
				records, err := s.Load(context.Background())
				if err != nil || len(records) != n {
					b.Fatal(len(records), err)
				}
				_ = s.Close()
			}
		})
	}
}
