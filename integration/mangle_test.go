package integration

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/busylamp/busylamp/integration/stack"
)

// once returns a mangler that sends what f makes of one frame instead of it, and then lets
// the others through; done closes with the first.
func once(f stack.Mangler) (m stack.Mangler, done chan struct{}) {
	done = make(chan struct{})
	over := false
	return func(payload []byte) ([]byte, bool) {
		if over {
			return stack.Netstring(payload), false
		}
		over = true
		defer close(done)
		return f(payload)
	}, done
}

// instead sends some bytes in front of a frame that would have come.
func instead(text string) stack.Mangler {
	return func(payload []byte) ([]byte, bool) { return append([]byte(text), stack.Netstring(payload)...), false }
}

// cutInside sends half a frame. Then the connection ends, or else the next frame follows at
// once.
func cutInside(end bool) stack.Mangler {
	return func(payload []byte) ([]byte, bool) {
		whole := stack.Netstring(payload)
		return whole[:len(whole)/2], end
	}
}

// lines is a mangler that treats each line of a frame by itself. A frame is its head, of
// magic and epoch, and lines.
type lines struct {
	// each says what becomes of an event's line: a copy of it is sent after each of the
	// times, 0 for at once. Heartbeats are let through.
	each    func() (copies []time.Duration)
	until   time.Time    // afterwards all are let through; zero: never
	count   atomic.Int64 // events that were not sent once and at once
	waiting atomic.Int64 // lines that are held back
	held    []heldLine
}

type heldLine struct {
	text  []byte
	until time.Time
}

// atOnce is what becomes of a line that is let through.
var atOnce = []time.Duration{0}

func (l *lines) mangle(payload []byte) ([]byte, bool) {
	now := time.Now()
	head, rest, _ := bytes.Cut(payload, []byte{'\n'})
	var out [][]byte
	for text := range bytes.SplitSeq(rest, []byte{'\n'}) {
		copies := atOnce
		if len(text) > 0 && text[0] != 'h' && (l.until.IsZero() || now.Before(l.until)) {
			if copies = l.each(); len(copies) != 1 || copies[0] > 0 {
				l.count.Add(1)
			}
		}
		for _, later := range copies {
			if later > 0 {
				l.held = append(l.held, heldLine{bytes.Clone(text), now.Add(later)})
			} else {
				out = append(out, text)
			}
		}
	}
	l.held = slices.DeleteFunc(l.held, func(h heldLine) bool {
		due := now.After(h.until)
		if due {
			out = append(out, h.text)
		}
		return due
	})
	l.waiting.Store(int64(len(l.held)))
	return frames(head, out), false
}

// frames makes frames of lines, each as small as the proxy's are.
func frames(head []byte, lines [][]byte) (all []byte) {
	for some := range slices.Chunk(lines, 16) {
		all = append(all, stack.Netstring(bytes.Join(append([][]byte{head}, some...), []byte{'\n'}))...)
	}
	return all
}

// every returns copies for every nth line, and lets the others through.
func every(n int, copies ...time.Duration) *lines {
	i := 0
	return &lines{each: func() []time.Duration {
		if i++; i%n == 0 {
			return copies
		}
		return atOnce
	}}
}

// shuffled holds back every line for up to a while: ends overtake starts.
func shuffled(most time.Duration, seed uint64) *lines {
	r := rand.New(rand.NewPCG(seed, 1))
	return &lines{each: func() []time.Duration { return []time.Duration{time.Duration(r.Int64N(int64(most)))} }}
}
