package kamailio

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

func TestEventsArrive(t *testing.T) {
	noLeaks(t)
	p, sink := newPeer(t), &recorder{}
	k, stop := run(t, p.addr(), sink, quick)
	defer stop()
	c := p.registered(t)
	say(t, c, "1.1", "h 0 -")
	eventually(t, 10*time.Second, "connected", func() bool { return sink.count("connected 1.1") == 1 })
	c.Write(netstring("somebody else's\nh 1 -"))
	c.Write(netstring(strings.Repeat("x", maxNetstring)))
	c.Write(netstring(""))
	ev := busylamp.CallEvent{Dialog: busylamp.DialogID{Entry: 1, ID: 2}, Stage: busylamp.Confirmed, Seq: 1, Caller: "sip:a@b", Callee: "none", CallID: "x"}
	say(t, c, "1.1", encode(ev), "x 2 1:2", "bad line")
	eventually(t, 10*time.Second, "two events", func() bool { return sink.count("call") == 2 })
	if sink.calls[0] != ev || sink.calls[1].Stage != busylamp.Ended || sink.calls[1].Dialog != ev.Dialog {
		t.Errorf("calls: %+v", sink.calls)
	}
	if got := sink.count("doubt unreadable"); got != 1 {
		t.Errorf("doubts of a bad line: %d", got)
	}
	for what, want := range map[string]uint64{"connects": 1, "frames": 2, "events": 2, "bad_events": 1, "bad_frames": 0, "foreign_frames": 3, "dropped": 0, "lost": 0} {
		k.Count.Each(func(name string, n uint64) {
			if name == what && n != want {
				t.Errorf("%s = %d, want %d", name, n, want)
			}
		})
	}
}

// TestEventBeforeHeartbeat: kamevapi's goroutines may turn the first frames around.
func TestEventBeforeHeartbeat(t *testing.T) {
	p, sink := newPeer(t), &recorder{}
	k, _ := run(t, p.addr(), sink, quick)
	c := p.registered(t)
	say(t, c, "1.1", "x 6 1:2")
	eventually(t, 10*time.Second, "the event", func() bool { return sink.count("call") == 1 })
	say(t, c, "1.1", "h 5 -")
	say(t, c, "1.1", "x 7 1:3")
	eventually(t, 10*time.Second, "the next", func() bool { return sink.count("call") == 2 })
	time.Sleep(5 * reorderWindow / 2)
	if got := sink.String(); got != "connected 1.1, call 6, call 7" || k.Count.Lost.Load() != 0 {
		t.Errorf("%s; %d lost", got, k.Count.Lost.Load())
	}
}

func TestLoss(t *testing.T) {
	p, sink := newPeer(t), &recorder{}
	k, _ := run(t, p.addr(), sink, quick)
	c := p.registered(t)
	say(t, c, "1.1", "h 2147483646 -")
	eventually(t, 10*time.Second, "connected", func() bool { return sink.count("connected") == 1 })
	say(t, c, "1.1", "x 2147483647 1:2")
	say(t, c, "1.1", "h -2147483646 -") // two more were given out
	eventually(t, 10*time.Second, "doubt", func() bool { return sink.count("doubt events lost") == 1 })
	if n := k.Count.Lost.Load(); n != 3 {
		t.Errorf("%d lost, want 3", n)
	}
}

// TestBadPeers: whatever a peer does costs its connection at most, and the next one works.
func TestBadPeers(t *testing.T) {
	noLeaks(t)
	write := func(s string) func(net.Conn) {
		return func(c net.Conn) { c.Write([]byte(s)) }
	}
	reset := func(s string) func(net.Conn) {
		return func(c net.Conn) { c.Write([]byte(s)); c.(*net.TCPConn).SetLinger(0); c.Close() }
	}
	closed := func(s string) func(net.Conn) {
		return func(c net.Conn) { c.Write([]byte(s)); c.Close() }
	}
	for _, bad := range []struct {
		name string
		do   func(net.Conn)
	}{
		{"garbage", write("HTTP/1.1 400 Bad Request\r\n\r\n")},
		{"noise", write("\x16\x03\x01\x02\x00\x01")},
		{"a negative length", write("-5:")},
		{"a length beyond int", write("99999999999999999:")},
		{"a length beyond memory", write("200000000000:")},
		{"10 MB", write("10485760:" + strings.Repeat("x", 10<<20))},
		{"a frame too large for us", write(fmt.Sprintf("9000:busylamp/1 1\n%s,", strings.Repeat("x", 9000-13)))},
		{"no comma", write("5:hello5:hello,")},
		{"half a frame, spliced with others", write("44:busylamp/1 1\nx 1 1:" + strings.Repeat("18:busylamp/1 1\nh 1 -,", 4))},
		{"no epoch", write("13:busylamp/1 x\n,")},
		{"another epoch", write("18:busylamp/1 7\nh 1 -,")},
		{"close", closed("")},
		{"close within a frame", closed("50:busylamp/1")},
		{"close within a length", closed("5")},
		{"reset", reset("")},
		{"reset within a frame", reset("50:busylamp/1")},
		{"reset behind a frame", reset("18:busylamp/1 1\nh 1 -,")},
		{"silence", func(net.Conn) {}},
		{"silence within a frame", write("50:busylamp/1")},
		{"talk of others alone", func(c net.Conn) {
			for {
				if _, err := c.Write(netstring("not for us")); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}},
	} {
		for _, heard := range []bool{false, true} {
			if !heard && bad.name == "another epoch" {
				continue // it is the first one then, and not another
			}
			t.Run(fmt.Sprintf("%s/heard=%v", bad.name, heard), func(t *testing.T) {
				t.Parallel()
				p, sink := newPeer(t), &recorder{}
				waits := quick
				waits.silence = 500 * time.Millisecond
				run(t, p.addr(), sink, waits)
				c := p.registered(t)
				if heard {
					say(t, c, "1", "h 0 -")
					eventually(t, 10*time.Second, "connected", func() bool { return sink.count("connected") == 1 })
				}
				go bad.do(c)
				next := p.registered(t)
				if was := sink.count("disconnected"); heard && was != 1 {
					t.Errorf("disconnected %d times: %v", was, sink)
				}
				for sink.count("connected 2") == 0 {
					say(t, next, "2", "h 0 -", "x 1 1:1")
					time.Sleep(10 * time.Millisecond)
				}
				if _, err := c.Read(make([]byte, 1)); err == nil {
					t.Error("the bad connection is still open")
				}
			})
		}
	}
}

// TestPeerThatNeverReads: our register waits in its socket, and its frames arrive.
func TestPeerThatNeverReads(t *testing.T) {
	p, sink := newPeer(t), &recorder{}
	run(t, p.addr(), sink, quick)
	c := p.accept(t)
	say(t, c, "1", "h 0 -", "x 1 1:1")
	eventually(t, 10*time.Second, "the call", func() bool { return sink.count("call") == 1 })
}

// TestAnswersAtOnce: a frame does not wait in our buffers for the frame behind it.
func TestAnswersAtOnce(t *testing.T) {
	p, sink := newPeer(t), &recorder{}
	run(t, p.addr(), sink, quick)
	c := p.registered(t)
	frame := netstring("busylamp/1 1\nx 1 1:1")
	c.Write(append(frame, "40:somebody"...))
	eventually(t, 10*time.Second, "the call", func() bool { return sink.count("call") == 1 })
}

func TestTwoGuards(t *testing.T) {
	p, sinks := newPeer(t), []*recorder{{}, {}}
	for _, s := range sinks {
		run(t, p.addr(), s, quick)
	}
	for range sinks {
		say(t, p.registered(t), "1", "h 0 -", "x 1 1:1")
	}
	for _, s := range sinks {
		eventually(t, 10*time.Second, "the call", func() bool { return s.count("call") == 1 })
	}
}

// TestStrangersFirst: others who are first at our listener are sent away.
func TestStrangersFirst(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial := func(says string) net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, says)
		t.Cleanup(func() { c.Close() })
		return c
	}
	strangers := []net.Conn{dial(""), dial("4:wor"), dial("4:ward,"), dial(strings.Repeat("x", 100))}
	ours := dial("4:word,")
	c, err := accept(l, "4:word,")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.RemoteAddr().String() != ours.LocalAddr().String() {
		t.Error("a stranger was taken for kamevapi")
	}
	for i, s := range strangers {
		s.SetReadDeadline(time.Now().Add(10 * time.Second))
		if b, _ := io.ReadAll(s); len(b) > 0 || bytes.Contains(b, []byte("busylamp")) {
			t.Errorf("stranger %d was told %q", i, b)
		}
	}
}

// TestListenerTimeout: whenever our listener closes too early, nothing is left over.
func TestListenerTimeout(t *testing.T) {
	noLeaks(t)
	failed := 0
	for i := range 200 {
		g := &guard{done: make(chan struct{}), timing: timing{dial: time.Duration(i) * time.Microsecond}}
		if err := g.openEvapi(); err != nil {
			failed++
			continue
		}
		g.downstream.Close()
		g.evapi.ReadEvents()
	}
	if failed == 0 {
		t.Error("it never closed too early")
	}
}
