package kamailio

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// TestInbox: whoever brings frames, and however many at a time, each is handed on once, and
// those of one who brings them in their order; one batch at a time, none above the limit.
func TestInbox(t *testing.T) {
	const bringers, each = 8, 5000
	var delivering atomic.Int32
	var got [bringers][]uint32
	b := newInbox(func(batch [][]byte) {
		if delivering.Add(1) != 1 {
			t.Error("two batches at a time")
		}
		defer delivering.Add(-1)
		sum := 0
		for _, f := range batch {
			sum += len(f)
			got[f[0]] = append(got[f[0]], binary.BigEndian.Uint32(f[1:]))
		}
		if len(batch) == 0 || len(batch) > 1 && sum > maxFrame {
			t.Errorf("a batch of %d frames, %d bytes", len(batch), sum)
		}
	})
	var all sync.WaitGroup
	for who := range bringers {
		all.Go(func() {
			for n := range uint32(each) {
				f := make([]byte, 5+n%500)
				f[0] = byte(who)
				binary.BigEndian.PutUint32(f[1:], n)
				if !b.put(f) {
					t.Error("no room")
				}
				if n%100 == 0 {
					b.between(func() {
						if delivering.Load() != 0 {
							t.Error("between and a delivery at a time")
						}
					})
				}
			}
		})
	}
	all.Wait()
	b.close()
	for who, numbers := range got {
		if len(numbers) != each || !slices.IsSorted(numbers) {
			t.Errorf("%d: %d frames, in order: %v", who, len(numbers), slices.IsSorted(numbers))
		}
	}
	if b.bytes != 0 {
		t.Errorf("%d bytes are still counted", b.bytes)
	}
}

// TestInboxBounded: while one delivery takes its time, others are turned away once the limit
// is reached, and none of them waits; what was taken is handed on afterwards.
func TestInboxBounded(t *testing.T) {
	frame := make([]byte, maxFrame)
	stuck, free := make(chan struct{}), make(chan struct{})
	first, delivered := true, 0
	b := newInbox(func(batch [][]byte) {
		if delivered += len(batch); first {
			first = false
			close(stuck)
			<-free
		}
	})
	done := make(chan struct{})
	go func() { defer close(done); b.put(frame) }()
	<-stuck
	const room = maxWaiting / (maxFrame + frameCost)
	for n := 1; n < 2*room; n++ { // one is on its way
		if ok := b.put(frame); ok != (n < room) {
			t.Fatalf("frame %d is taken: %v; room is for %d", n, ok, room)
		}
	}
	b.between(func() { t.Error("between ran beside a delivery") })
	close(free)
	<-done
	if delivered != room || !b.put(frame) || delivered != room+1 {
		t.Errorf("%d frames are handed on, of %d", delivered, room)
	}
}

// TestInboxClose: close waits for what is on its way, and nothing comes after it.
func TestInboxClose(t *testing.T) {
	stuck, free := make(chan struct{}), make(chan struct{})
	ended, delivered := false, 0
	b := newInbox(func(batch [][]byte) {
		delivered += len(batch)
		close(stuck)
		<-free
		ended = true
	})
	go b.put([]byte("1"))
	<-stuck
	b.put([]byte("2"))
	go close(free)
	b.close()
	if !ended || delivered != 1 {
		t.Errorf("ended %v, %d frames are handed on", ended, delivered)
	}
	if !b.put(bytes.Repeat([]byte("3"), maxWaiting)) || delivered != 1 {
		t.Error("a frame counts as dropped, or is handed on, after the end")
	}
	b.between(func() { t.Error("between ran after the end") })
}

func TestInboxAllocations(t *testing.T) {
	b, frame := newInbox(func([][]byte) {}), []byte("x")
	b.put(frame)
	if n := testing.AllocsPerRun(1000, func() { b.put(frame) }); n != 0 {
		t.Errorf("%v allocations for a frame: the slices are to be used again", n)
	}
}
