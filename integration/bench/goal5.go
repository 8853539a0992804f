package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/sipnet"
	"github.com/busylamp/busylamp/adapters/sippublish"
	"github.com/busylamp/busylamp/adapters/store"
)

func init() {
	register(Measure{
		Name:  "publisher",
		What:  "publisher alone: claim to 200 to durable record",
		Child: true,
		How: "The engine, its loop, the publisher and the store (pebble, on disk) in one process, with at most 512 requests under way; " +
			"a raw responder in another, which answers without a parser, on the same two cores. 20,000 presentities become busy and free " +
			"again, one PUBLISH each time; the clock runs from the first claim until every record is in the store. The ping-pong sends the " +
			"bytes of such a PUBLISH to the same responder by plain system calls of Go's net package, 512 under way, and reads its answers.",
		Goals: []Goal{
			{Number: 5, What: "PUBLISH a second, UDP", Figure: "publish udp", AtLeast: 40_000},
			{Number: 5, What: "PUBLISH a second, TCP", Figure: "publish tcp", AtLeast: 40_000},
			{Number: 5, What: "UDP, over a raw ping-pong of the same bytes", Figure: "publish udp", Over: "ping-pong udp", AtLeast: 0.30},
			{What: "CPU of the sidecar's side for a PUBLISH, UDP", Figure: "publish cpu udp"},
			{What: "the same, TCP", Figure: "publish cpu tcp"},
		},
		Run: runPublisher,
	})
	registerHelper("raw", rawResponder)
}

func runPublisher(ctx context.Context, e Env) (samples []Sample, err error) {
	wave, waves := 20_000, 6
	if e.Quick {
		waves = 2
	}
	steps := 3 * e.Rounds()
	for round := range e.Rounds() {
		for i, transport := range []string{"udp", "tcp"} {
			e.Progress(3*round+i+1, steps, "publisher over %s", transport)
			rate, cpu, err := publishWaves(ctx, filepath.Join(e.Dir, fmt.Sprint(transport, round)), transport, wave, waves)
			if err != nil {
				return nil, err
			}
			samples = append(samples, Sample{Figure: "publish " + transport, Unit: "1/s", Round: round, Value: rate},
				Sample{Figure: "publish cpu " + transport, Unit: "us", Round: round, Value: cpu})
		}
		e.Progress(3*round+3, steps, "raw ping-pong")
		rate, err := pingPong(ctx, wave*waves)
		if err != nil {
			return nil, err
		}
		samples = append(samples, Sample{Figure: "ping-pong udp", Unit: "1/s", Round: round, Value: rate})
	}
	return samples, e.profiled("goal-5-publisher", func() error {
		_, _, err := publishWaves(ctx, filepath.Join(e.Dir, "profiled"), "udp", wave, waves)
		return err
	})
}

// somebody is a directory in which everybody is who they say.
type somebody struct{}

func (somebody) Presentity(uri string) (busylamp.Presentity, error) {
	return busylamp.ParsePresentity(uri)
}
func (somebody) DisplayName(busylamp.Presentity) string { return "" }

const mostUnderWay = 512

// publishWaves has so many people change their state so often, and returns the changes a
// second that were published and are in the store, and the CPU time of one, in us.
func publishWaves(ctx context.Context, dir, transport string, people, waves int) (rate, cpu float64, err error) {
	to, stop, err := startRaw(ctx, transport)
	if err != nil {
		return 0, 0, err
	}
	defer stop()
	target, err := sipnet.ParseTarget("sip:" + to + ";transport=" + transport)
	if err != nil {
		return 0, 0, err
	}
	pub, err := sippublish.New(sippublish.Config{Name: "bench", Server: target, Profile: sippublish.RPID, UserAgent: "busylamp"})
	if err != nil {
		return 0, 0, err
	}
	defer pub.Close()
	records, err := store.Open(dir, store.Options{})
	if err != nil {
		return 0, 0, err
	}
	defer records.Close()
	keeper := store.NewKeeper(records, slog.New(slog.DiscardHandler))
	engine, err := busylamp.New(busylamp.Config{Directory: somebody{}, Durable: true, Publishers: []busylamp.PublisherConfig{
		{Name: "bench", Max: mostUnderWay}}})
	if err != nil {
		return 0, 0, err
	}
	loop := busylamp.NewLoop(engine, busylamp.LoopConfig{Publishers: []busylamp.Publisher{pub}, Keep: keeper.Keep})
	run, end := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { loop.Run(run) })
	running.Go(func() { _ = keeper.Run(run, loop.Records) })
	defer running.Wait()
	defer end()

	before, began := ownCPU(), time.Now()
	for wave := range waves {
		if err := claimAll(ctx, loop, people, wave); err != nil {
			return 0, 0, err
		}
	}
	if err := drained(ctx, loop, keeper, people*waves); err != nil {
		return 0, 0, err
	}
	n := float64(people * waves)
	return n / time.Since(began).Seconds(), float64((ownCPU() - before).Microseconds()) / n, nil
}

// claimAll states something new of everybody, no faster than it is published.
func claimAll(ctx context.Context, loop *busylamp.Loop, people, wave int) error {
	c := busylamp.Claim{Source: "bench", State: busylamp.OnThePhone}
	if wave%2 == 1 {
		c.State = busylamp.Unknown
	}
	for i := 0; i < people; {
		waiting := 0
		err := loop.Do(ctx, func(e *busylamp.Engine) {
			for n := 0; n < mostUnderWay/2 && i < people; n++ {
				e.Claim(busylamp.Presentity("sip:user"+strconv.Itoa(i)+"@example.com"), c)
				i++
			}
			waiting = e.Stats().Publishers[0].Waiting
		})
		for err == nil && waiting > 2*mostUnderWay {
			time.Sleep(time.Millisecond)
			err = loop.Do(ctx, func(e *busylamp.Engine) { waiting = e.Stats().Publishers[0].Waiting })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// drained waits until so many requests were accepted and are in the store.
func drained(ctx context.Context, loop *busylamp.Loop, keeper *store.Keeper, want int) error {
	for accepted := uint64(0); ; time.Sleep(time.Millisecond) {
		var s busylamp.PublisherStats
		if err := loop.Do(ctx, func(e *busylamp.Engine) { s = e.Stats().Publishers[0] }); err != nil {
			return err
		}
		accepted = s.Requests[busylamp.Initial][busylamp.Accepted] + s.Requests[busylamp.Remove][busylamp.Accepted]
		if s.InFlight+s.Waiting == 0 && keeper.Waiting() == 0 {
			if accepted != uint64(want) {
				return fmt.Errorf("%d requests were accepted of %d: %+v", accepted, want, s)
			}
			return nil
		}
	}
}

// ownCPU is the CPU time that this process has had.
func ownCPU() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // fails for a bad pointer alone
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// pingPong sends n times the bytes of a PUBLISH and returns how many answers a second come.
func pingPong(ctx context.Context, n int) (rate float64, err error) {
	to, stop, err := startRaw(ctx, "udp")
	if err != nil {
		return 0, err
	}
	defer stop()
	conn, err := net.Dial("udp", to)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	_ = conn.(*net.UDPConn).SetReadBuffer(4 << 20)
	_ = conn.(*net.UDPConn).SetWriteBuffer(4 << 20)
	room := make(chan struct{}, mostUnderWay)
	began := time.Now()
	var sending sync.WaitGroup
	sending.Go(func() {
		for range n {
			select {
			case room <- struct{}{}:
				_, _ = conn.Write([]byte(samplePublish)) // one that does not go out has no answer
			case <-ctx.Done():
				return
			}
		}
	})
	defer sending.Wait()
	b := make([]byte, 2048)
	answered, last := 0, began
	for missing := 0; answered+missing < n && ctx.Err() == nil; <-room {
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return 0, err
		}
		if _, err := conn.Read(b); err != nil {
			missing++ // a datagram may be lost
			continue
		}
		answered, last = answered+1, time.Now()
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if answered < n-n/100 {
		return 0, fmt.Errorf("raw ping-pong: %d answers to %d datagrams", answered, n)
	}
	return float64(answered) / last.Sub(began).Seconds(), nil
}

// samplePublish is one of the requests that the publisher sends.
var samplePublish = "PUBLISH sip:user10000@example.com SIP/2.0\r\n" +
	"Via: SIP/2.0/UDP 127.0.0.1:40000;branch=z9hG4bKabcdefghijklmnopqrstuv01;rport\r\n" +
	"From: <sip:user10000@example.com>;tag=abcdefghijklmnop\r\nTo: <sip:user10000@example.com>\r\nCall-ID: abcdefghijklmnopqrstuv01\r\n" +
	"CSeq: 1 PUBLISH\r\nContact: <sip:user10000@127.0.0.1:40000;transport=udp>\r\nMax-Forwards: 70\r\nEvent: presence\r\nExpires: 600\r\n" +
	"User-Agent: busylamp\r\nContent-Type: application/pidf+xml\r\nContent-Length: " +
	strconv.Itoa(len(sampleBody)) + "\r\n\r\n" + sampleBody

const sampleBody = `<?xml version="1.0" encoding="UTF-8"?>
<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid" entity="sip:user10000@example.com">
<tuple id="busylamp"><status><basic>open</basic></status></tuple>
<dm:person id="busylamp-p"><rpid:activities><rpid:busy/><rpid:on-the-phone/></rpid:activities><dm:note>On the phone</dm:note></dm:person>
</presence>
`

// startRaw starts a raw responder, and returns its address.
func startRaw(ctx context.Context, transport string) (addr string, stop func(), err error) {
	r, err := startHelper(ctx, "raw", transport)
	if err != nil {
		return "", nil, err
	}
	return r.line, r.stop, nil
}

// rawResponder answers every PUBLISH by 200 with a new tag, until its standard input ends. It
// writes its address to standard output.
func rawResponder(_ context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("raw: want udp or tcp")
	}
	if args[0] == "tcp" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Println(l.Addr())
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go answerStream(conn)
			}
		}()
		_, err = io.Copy(io.Discard, stdin())
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	self, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	d, err := newDatagrams(fd)
	if err != nil {
		return err
	}
	fmt.Printf("127.0.0.1:%d\n", self.(*unix.SockaddrInet4).Port)
	go answerDatagrams(d)
	_, err = io.Copy(io.Discard, stdin())
	return err
}

func answerDatagrams(d *datagrams) {
	for tag := uint32(1); ; {
		n, err := d.read()
		if err != nil {
			continue // an ICMP error of a datagram that was sent
		}
		for i := range n {
			data, _ := d.datagram(i)
			if m, ok := parseRequest(data); ok {
				d.answer(i, func(room []byte) []byte { return appendResponse(room, m, 200, tag) })
				tag++
			}
		}
		d.flush()
	}
}

func answerStream(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 256<<10)
	var out, head []byte
	for tag := uint32(1); ; tag++ {
		head = head[:0]
		length := 0
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return
			}
			head = append(head, line...)
			if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				length = atoi(bytes.TrimSpace(value))
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := in.Discard(length); err != nil {
			return
		}
		if m, ok := parseRequest(head); ok {
			out = appendResponse(out, m, 200, tag)
		}
		if in.Buffered() == 0 || len(out) > 64<<10 {
			if _, err := conn.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
	}
}

// stdin is standard input, whose end says that whoever started this one has gone.
func stdin() io.Reader { return os.Stdin }
