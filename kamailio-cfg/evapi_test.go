package kamailiocfg

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var counter atomic.Int64

// unique returns a token that this test run has not used before.
func unique() string {
	return fmt.Sprintf("%d-%d", time.Now().UnixNano(), counter.Add(1))
}

// client is an evapi client that keeps what it is sent.
type client struct {
	conn net.Conn

	mu     sync.Mutex
	change chan struct{} // closed and renewed when something came
	frames []string
	lines  []line // all but heartbeats
	beats  int
	flags  string // of the last heartbeat
	given  int64  // the last heartbeat's number
	epoch  string
	bad    []string // what is no line of ours
}

// line is a decoded line of busylamp.cfg.
type line struct {
	kind                   string
	seq                    int64
	dialog                 string
	caller, callee, callID string
}

// String is what the tests compare: "c caller callee", "x".
func (l line) String() string {
	return strings.TrimSpace(l.kind + " " + short(l.caller) + " " + short(l.callee))
}

func short(uri string) string {
	return strings.TrimSuffix(strings.TrimPrefix(uri, "sip:"), "@example.com")
}

// listen connects to evapi and registers as the sidecar does.
func (p *proxy) listen(t *testing.T) *client {
	t.Helper()
	c := p.connect(t)
	c.send(t, "busylamp/1 register")
	c.until(t, "the first heartbeat", func() bool { return c.beats > 0 })
	return c
}

// connect connects to evapi and keeps silent.
func (p *proxy) connect(t *testing.T) *client {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.evapi))
	if err != nil {
		t.Fatal(err)
	}
	c := &client{conn: conn, change: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.read()
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return c
}

func (c *client) send(t *testing.T, frame string) {
	t.Helper()
	if _, err := fmt.Fprintf(c.conn, "%d:%s,", len(frame), frame); err != nil {
		t.Fatal(err)
	}
}

func (c *client) read() {
	r := bufio.NewReader(c.conn)
	for {
		size, err := r.ReadString(':')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(size, ":"))
		if err != nil {
			return
		}
		frame := make([]byte, n+1)
		if _, err := io.ReadFull(r, frame); err != nil {
			return
		}
		c.take(string(frame[:n]))
	}
}

func (c *client) take(frame string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frames = append(c.frames, frame)
	head, body, _ := strings.Cut(frame, "\n")
	if epoch, ours := strings.CutPrefix(head, "busylamp/1 "); ours {
		c.epoch = epoch
		for l := range strings.SplitSeq(body, "\n") {
			c.takeLine(l)
		}
	}
	close(c.change)
	c.change = make(chan struct{})
}

func (c *client) takeLine(text string) {
	f := strings.Split(text, " ")
	want := map[string]int{"h": 3, "x": 3, "c": 6, "e": 6}[f[0]]
	if len(f) != want || len(text) >= 1024 {
		c.bad = append(c.bad, text)
		return
	}
	seq, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		c.bad = append(c.bad, text)
		return
	}
	if f[0] == "h" {
		c.beats, c.given, c.flags = c.beats+1, seq, f[2]
		return
	}
	l := line{kind: f[0], seq: seq, dialog: f[2]}
	for i, to := range []*string{&l.caller, &l.callee, &l.callID} {
		if 3+i >= len(f) || f[3+i] == "-" {
			continue
		}
		b, err := base64.StdEncoding.Strict().DecodeString(f[3+i])
		if err != nil || len(b) == 0 {
			c.bad = append(c.bad, text)
			return
		}
		*to = string(b)
	}
	c.lines = append(c.lines, l)
}

// until waits for a condition on what has come.
func (c *client) until(t *testing.T, what string, met func() bool) {
	t.Helper()
	if !c.within(bound, met) {
		t.Fatalf("no %s within %v; frames: %q", what, bound, c.frames)
	}
}

func (c *client) within(d time.Duration, met func() bool) bool {
	deadline := time.After(d)
	for {
		c.mu.Lock()
		ok, change := met(), c.change
		c.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-change:
		case <-deadline:
			return false
		}
	}
}

// settled waits until all that the proxy has numbered is here, and returns the lines
// since the mark (a number of lines), having checked that every line is well formed and
// the numbers have no hole.
func (c *client) settled(t *testing.T, mark int) []line {
	t.Helper()
	c.mu.Lock()
	seen := c.beats
	c.mu.Unlock()
	c.until(t, "heartbeats", func() bool { return c.beats >= seen+2 })
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.bad) > 0 {
		t.Fatalf("lines that are none: %q", c.bad)
	}
	var seqs []int64
	for _, l := range c.lines {
		seqs = append(seqs, l.seq)
	}
	slices.Sort(seqs)
	for i, s := range seqs {
		if s != int64(i+1) {
			t.Fatalf("sequence numbers %v: want 1 to %d", seqs, len(seqs))
		}
	}
	if c.given != int64(len(seqs)) {
		t.Fatalf("the heartbeat says that %d numbers were given out, lines are here for %d", c.given, len(seqs))
	}
	return slices.Clone(c.lines[mark:])
}

// expect compares the lines since the mark with what they should be, and returns them.
func (c *client) expect(t *testing.T, mark int, want ...string) []line {
	t.Helper()
	lines := c.settled(t, mark)
	var got []string
	for _, l := range lines {
		got = append(got, l.String())
	}
	if !slices.Equal(got, want) {
		t.Fatalf("lines %q, want %q", got, want)
	}
	return lines
}

// last returns the epoch of the last frame and the flags of the last heartbeat.
func (c *client) last() (epoch, flags string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch, c.flags
}
