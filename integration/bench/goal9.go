package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/kamailio"
)

// The intake's load. Each call is two events, and the core remembers an ended call for two
// minutes, 262,144 of them at most: that bounds the calls.
const (
	intakeCalls = 250_000
	intakeUsers = 200_000 // half of them call, half are called
	intakeUp    = 5_000   // calls that are up at a time
	intakeStays = 1_000   // one call in so many has no end
	slowFrames  = 3_000   // one a millisecond
)

// intakeOffered are the events a second that are offered in frames of so many. In small frames
// that is more than can be taken, and TCP slows the sender down; large frames are read faster
// than the engine takes them, and what it is behind for long is dropped.
var intakeOffered = []struct{ per, rate int }{{1, 400_000}, {4, 400_000}, {20, 250_000}}

func init() {
	register(Measure{
		Name:  "intake",
		What:  "evapi intake alone",
		Child: true,
		How: "A sender in a process of its own writes netstrings of busylamp.cfg's lines over TCP, at most 400,000 events a second (250,000 in " +
			"frames of 20): 250,000 calls between 200,000 users, 5,000 at a time. The guard, kamevapi, the decoder, the sequence and the engine with a directory, and no publisher, take " +
			"them. The clock runs until the engine has the last event. The goal is taken with 4 events in a frame: at such a rate busylamp.cfg's drain, " +
			"each half millisecond, finds 100 lines and fills its frames (64 lines or 6,000 bytes), so 4 is on the safe side. Wrong is what was dropped, " +
			"taken for lost, asked for again, and every user who is not as the events say at the end. " +
			"Then 1,000 frames a second of one event: there, CPU time is that of waking up.",
		Goals: []Goal{
			{Number: 9, What: "events a second, 4 in a frame", Figure: "intake 4", AtLeast: 200_000},
			{Number: 9, What: "wrong in effect, all sizes", Figure: "intake wrong", AtMost: 0, Exactly: true},
			{What: "events a second, 1 in a frame", Figure: "intake 1"},
			{What: "events a second, 20 in a frame", Figure: "intake 20"},
			{What: "CPU of an event, 4 in a frame, engine included", Figure: "intake cpu 4"},
			{What: "CPU of a frame at 1,000 a second, GOMAXPROCS=1", Figure: "intake cpu slow 1"},
			{What: "the same, GOMAXPROCS=2", Figure: "intake cpu slow 2"},
		},
		Run: runIntake,
	})
	registerHelper("evapi-sender", sendEvents)
}

func runIntake(ctx context.Context, e Env) (samples []Sample, err error) {
	calls, slow := intakeCalls, slowFrames
	if e.Quick {
		calls, slow = calls/10, slow/10
	}
	step, steps := 0, 5*e.Rounds()
	for round := range e.Rounds() {
		wrong := 0
		for _, o := range intakeOffered {
			step++
			e.Progress(step, steps, "%d events in a frame", o.per)
			r, err := takeIn(ctx, calls, o.per, o.rate/o.per)
			if err != nil {
				return nil, err
			}
			wrong += r.wrong
			name := strconv.Itoa(o.per)
			samples = append(samples, Sample{Figure: "intake " + name, Unit: "1/s", Round: round, Value: r.rate},
				Sample{Figure: "intake cpu " + name, Unit: "us", Round: round, Value: r.cpu})
		}
		for procs := 1; procs <= 2; procs++ {
			step++
			e.Progress(step, steps, "1,000 frames a second, GOMAXPROCS=%d", procs)
			before := runtime.GOMAXPROCS(procs)
			r, err := takeIn(ctx, slow/2, 1, 1000)
			runtime.GOMAXPROCS(before)
			if err != nil {
				return nil, err
			}
			wrong += r.wrong
			samples = append(samples, Sample{Figure: "intake cpu slow " + strconv.Itoa(procs), Unit: "us", Round: round, Value: r.cpu})
		}
		samples = append(samples, Sample{Figure: "intake wrong", Round: round, Value: float64(wrong)})
	}
	return samples, e.profiled("goal-9-intake", func() error {
		_, err := takeIn(ctx, calls, 4, intakeOffered[1].rate/4)
		return err
	})
}

// taken is how one run of the intake went.
type taken struct {
	rate  float64 // events a second
	cpu   float64 // of this process for an event, us
	wrong int
}

// takeIn takes the events of so many calls, so many in a frame, at so many frames a second.
func takeIn(ctx context.Context, calls, per, frames int) (r taken, err error) {
	s, err := startHelper(ctx, "evapi-sender", strconv.Itoa(calls), strconv.Itoa(per), strconv.Itoa(frames))
	if err != nil {
		return r, err
	}
	defer s.stop()
	engine, err := busylamp.New(busylamp.Config{Proxies: []string{"proxy"}, Directory: somebody{}})
	if err != nil {
		return r, err
	}
	loop := busylamp.NewLoop(engine, busylamp.LoopConfig{Proxies: []busylamp.Proxy{idleProxy{}}})
	events := kamailio.NewEvents(kamailio.Config{Name: "proxy", Evapi: s.line, Log: slog.New(slog.DiscardHandler)}, loop)
	run, end := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer end()
	running.Go(func() { loop.Run(run) })
	running.Go(func() { events.Run(run) })
	if _, err := until(ctx, loop, func(_ busylamp.Stats, p busylamp.ProxyStatus) bool { return p.InStep }); err != nil {
		return r, fmt.Errorf("the first list: %w", err)
	}
	runtime.GC()

	want := uint64(2*calls - len(staying(calls)))
	before, began := ownCPU(), time.Now()
	if _, err := io.WriteString(s.in, "go\n"); err != nil {
		return r, err
	}
	stats, err := until(ctx, loop, func(s busylamp.Stats, _ busylamp.ProxyStatus) bool { return s.Events >= want })
	if err != nil && !errors.Is(err, errLong) {
		return r, err
	}
	took, cpu := time.Since(began), ownCPU()-before
	r.rate, r.cpu = float64(stats.Events)/took.Seconds(), float64(cpu.Microseconds())/float64(want)
	r.wrong = int(want-stats.Events) + int(stats.Resyncs-1) + int(events.Count.Dropped.Load()+events.Count.Lost.Load())
	off, err := usersWrong(ctx, loop, calls)
	r.wrong += off
	return r, err
}

// errLong says that the events have not all come.
var errLong = errors.New("not all events have come within 20 s")

// until looks at the engine every few milliseconds until it is as wanted.
func until(ctx context.Context, loop *busylamp.Loop, ok func(busylamp.Stats, busylamp.ProxyStatus) bool) (s busylamp.Stats, err error) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var p busylamp.ProxyStatus
		if err := loop.Do(ctx, func(e *busylamp.Engine) { s, p = e.Stats(), e.ProxyStatuses()[0] }); err != nil || ok(s, p) {
			return s, err
		}
	}
	return s, errLong
}

// usersWrong returns how many users are not in a call and should be, or the other way round.
func usersWrong(ctx context.Context, loop *busylamp.Loop, calls int) (wrong int, err error) {
	busy := make(map[int]bool)
	for _, call := range staying(calls) {
		caller, callee := intakeParties(call)
		busy[caller], busy[callee] = true, true
	}
	err = loop.Do(ctx, func(e *busylamp.Engine) {
		for user := range intakeUsers {
			if v, _ := e.View(busylamp.Presentity(intakeURI(user))); (v.State == busylamp.OnThePhone) != busy[user] {
				wrong++
			}
		}
	})
	return wrong, err
}

// staying returns the calls that have no end.
func staying(calls int) (all []int) {
	for i := 0; i < calls; i += intakeStays {
		all = append(all, i)
	}
	return all
}

func intakeParties(call int) (caller, callee int) {
	return 2 * call % intakeUsers, (2*call + 1) % intakeUsers
}

func intakeURI(user int) string { return "sip:user" + strconv.Itoa(user) + "@example.com" }

// idleProxy has no calls whenever it is asked.
type idleProxy struct{}

func (idleProxy) List(context.Context) (busylamp.Listing, error) {
	return busylamp.Listing{Epoch: standinEpoch}, nil
}

func (idleProxy) Details(context.Context, []busylamp.Listed, func([]busylamp.CallEvent)) error {
	return nil
}

// sendEvents is the helper: CALLS, events in a FRAME, FRAMES a second.
func sendEvents(_ context.Context, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("evapi-sender %q: want CALLS PER-FRAME FRAMES-PER-SECOND", args)
	}
	var n [3]int
	for i, arg := range args {
		var err error
		if n[i], err = strconv.Atoi(arg); err != nil || n[i] < 1 {
			return fmt.Errorf("evapi-sender %q: %q is no positive number", args, arg)
		}
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	frames, last := intakeFrames(n[0], n[1]) // before anybody connects: who hears nothing goes away
	fmt.Println(listener.Addr())
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := bufio.NewReader(conn).ReadString(','); err != nil { // it registers
		return err
	}
	conn.Write(evapiFrame(heartbeat(0)))
	orders := bufio.NewReader(os.Stdin)
	if _, err := orders.ReadString('\n'); err != nil {
		return err
	}
	if err := pace(conn, frames, n[2]); err != nil {
		return err
	}
	conn.Write(evapiFrame(heartbeat(last)))
	_, _ = io.Copy(io.Discard, orders) // until it is closed
	return nil
}

// pace writes frames, so many a second: what is due is written together, as the kernel would
// do with what evapi writes meanwhile.
func pace(conn net.Conn, frames [][]byte, rate int) error {
	began := time.Now()
	var due []byte
	for next := 0; next < len(frames); {
		upTo := min(int(time.Since(began)*time.Duration(rate)/time.Second)+1, len(frames))
		for due = due[:0]; next < upTo; next++ {
			due = append(due, frames[next]...)
		}
		if _, err := conn.Write(due); err != nil {
			return err
		}
		if next < len(frames) {
			time.Sleep(time.Until(began.Add(time.Duration(next) * time.Second / time.Duration(rate))))
		}
	}
	return nil
}

func heartbeat(seq int) []byte { return fmt.Appendf(nil, "busylamp/1 %s\nh %d -", standinEpoch, seq) }

func evapiFrame(payload []byte) []byte { return fmt.Appendf(nil, "%d:%s,", len(payload), payload) }

// intakeFrames returns the frames of so many calls, so many events in each, and the last
// number given out.
func intakeFrames(calls, per int) (frames [][]byte, seq int) {
	head := "busylamp/1 " + standinEpoch
	payload, n := []byte(head), 0
	flush := func() {
		if n > 0 {
			frames = append(frames, evapiFrame(payload))
		}
		payload, n = append(payload[:0], head...), 0
	}
	add := func(format string, args ...any) {
		payload = fmt.Appendf(payload, format, args...)
		if n++; n == per {
			flush()
		}
	}
	b64 := base64.StdEncoding.EncodeToString
	for i := range calls + intakeUp {
		if i < calls {
			caller, callee := intakeParties(i)
			seq++
			add("\nc %d %d:%d %s %s %s", seq, i%4096, i, b64([]byte(intakeURI(caller))), b64([]byte(intakeURI(callee))),
				b64(fmt.Appendf(nil, "f81d4fae-7dec-11d0-a765-%012x@192.0.2.7", i)))
		}
		if over := i - intakeUp; over >= 0 && over%intakeStays != 0 {
			seq++
			add("\nx %d %d:%d", seq, over%4096, over)
		}
	}
	flush()
	return frames, seq
}
