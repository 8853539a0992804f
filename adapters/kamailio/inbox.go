package kamailio

import "sync"

// maxWaiting bounds what waits between kamevapi and the engine, in bytes of payload with
// frameCost for each frame: some 50,000 events, which a proxy at 1,000 calls per second
// raises in 25 s.
const maxWaiting = 16 << 20

// frameCost is what a waiting frame takes besides its payload, in bytes.
const frameCost = 64

// inbox hands frames on, one batch at a time, in whichever goroutine brings one while no
// batch is on its way: kamevapi runs its handler in a goroutine for every frame anyhow, and
// a goroutine of our own behind it would cost another switch for each. What arrives while a
// batch is on its way waits for that goroutine, which takes it along as the next batch, so a
// slow engine makes larger batches, and nobody else waits.
type inbox struct {
	deliver func(batch [][]byte) // is run by one goroutine at a time
	mu      sync.Mutex
	rest    sync.Cond // busy has become false; of mu
	waiting [][]byte
	spare   [][]byte // to be waiting again
	bytes   int      // of waiting, and of what is on its way
	busy    bool
	closed  bool
}

func newInbox(deliver func([][]byte)) *inbox {
	b := &inbox{deliver: deliver}
	b.rest.L = &b.mu
	return b
}

// put takes a frame and reports whether there was room for it. After close it takes all, and
// forgets it.
func (b *inbox) put(payload []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	size := frameCost + len(payload)
	if b.closed || b.bytes+size > maxWaiting {
		return b.closed
	}
	b.bytes += size
	b.waiting = append(b.waiting, payload)
	if !b.busy {
		b.busy = true
		b.run()
		b.leave()
	}
	return true
}

// run delivers what waits. The lock is held, but for the deliveries.
func (b *inbox) run() {
	for len(b.waiting) > 0 && !b.closed {
		all := b.waiting
		b.waiting, b.spare = b.spare, nil
		for rest := all; len(rest) > 0 && !b.closed; {
			n, size := batch(rest)
			b.mu.Unlock()
			b.deliver(rest[:n])
			b.mu.Lock()
			clear(rest[:n])
			b.bytes -= size
			rest = rest[n:]
		}
		b.spare = all[:0]
	}
}

// batch says how many frames make the next batch, and what they take: at least one, and
// together no more than the largest frame, since the engine's mailbox counts messages and
// not what they hold.
func batch(frames [][]byte) (n, size int) {
	for sum := 0; n < len(frames) && (n == 0 || sum+len(frames[n]) <= maxFrame); n++ {
		sum += len(frames[n])
		size += frameCost + len(frames[n])
	}
	return n, size
}

// between runs f while no batch is on its way; not at all if one is.
func (b *inbox) between(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy || b.closed {
		return
	}
	b.busy = true
	b.mu.Unlock()
	f()
	b.mu.Lock()
	b.run()
	b.leave()
}

func (b *inbox) leave() {
	b.busy = false
	b.rest.Broadcast()
}

// close waits for the batch that is on its way. Nothing is delivered any more.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for b.busy {
		b.rest.Wait()
	}
	b.waiting = nil
}
