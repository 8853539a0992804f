package store

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

// forgetful is a store that keeps nothing.
type forgetful struct{}

func (forgetful) Load(context.Context) ([]busylamp.Record, error)      { return nil, nil }
func (forgetful) Commit(_ context.Context, _ []busylamp.StoreOp) error { return nil }

// BenchmarkKeep is what a change costs from the engine to the store, which costs nothing here.
func BenchmarkKeep(b *testing.B) {
	k := NewKeeper(forgetful{}, slog.New(slog.DiscardHandler))
	ops := make([][]busylamp.StoreOp, 1024)
	for i := range ops {
		for n := range 8 {
			ops[i] = append(ops[i], busylamp.StoreOp{Record: busylamp.Record{Publisher: "presence#0123abcd",
				Presentity: busylamp.Presentity(fmt.Sprintf("sip:user%07d@example.com", 8*i+n)), Tag: "a.1754000000.12345.6", State: busylamp.OnThePhone, Expires: time.Minute}})
		}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		k.Keep(ops[i%len(ops)])
		if i%32 == 31 {
			if err := k.commit(b.Context(), nil); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(8*b.N), "ns/change")
}
