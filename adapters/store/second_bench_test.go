package store

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/busylamp/busylamp"
)

// idle is a store that keeps nothing: what is left is the keeper, and being woken up.
type idle struct{}

func (idle) Load(context.Context) ([]busylamp.Record, error)  { return nil, nil }
func (idle) Commit(context.Context, []busylamp.StoreOp) error { return nil }

// BenchmarkSecond is what the store does in a second of 500 calls: through a keeper, 200
// times 10 changes, one every 5 ms, of publications that are put, put anew and deleted. Wall
// time means nothing here; what counts is the CPU time (of the whole process, threads that
// only wake up included), against that of no store, and what is allocated.
func BenchmarkSecond(b *testing.B) {
	b.Run("nothing", func(b *testing.B) { second(b, idle{}) })
	b.Run("store", func(b *testing.B) { second(b, open(b, place(b), Options{})) })
}

func second(b *testing.B, s busylamp.Store) {
	k := NewKeeper(s, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() {
		done <- k.Run(ctx, func(context.Context) ([]busylamp.Record, error) { return nil, nil })
	}()
	const commits, changes = 200, 10
	all := puts(0, 20_000)
	ops := make([]busylamp.StoreOp, changes)
	n := 0
	b.ReportAllocs()
	before, begun := cpu(b), 0
	for b.Loop() {
		tick := time.NewTicker(5 * time.Millisecond)
		for range commits {
			<-tick.C
			for i := range ops {
				// Each is put, put again 300 ms later, and deleted 3 s later.
				switch n % 3 {
				case 0:
					ops[i] = all[n%len(all)]
				case 1:
					ops[i] = all[(n+len(all)-1-3*200)%len(all)]
				default:
					ops[i] = all[(n+len(all)-2-3*2000)%len(all)]
					ops[i].Delete = true
				}
				n++
			}
			k.Keep(ops)
		}
		tick.Stop()
		begun++
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(commits*begun), "us-CPU/commit")
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// cpu returns the CPU time that the process has taken, the system's share included.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
